//! Answers whose every sentence can be checked against the text that it cites.
//!
//! # Entry
//!
//! [`cut`] reads a document into [`Claim`]s, each with its exact place; [`compose`] chooses those that answer a question and
//! words them; [`verify`] says whether a sentence is what its source says, and which check failed on what;
//! [`verify_rephrasing`] judges a sentence that somebody else worded.
//!
//! # How an answer is made
//!
//! document → `cut` (sentences, list items, table rows, commands; headings above) → `compose` (words of the question, section,
//! passage; steps in order) → `shorten` (openers and asides without facts) → [`verify`] → said, or dropped and counted.
//!
//! # Invariants
//!
//! - Ranges are in Unicode scalar values of the whole document, and the text between them is what was cited.
//! - A sentence that is the cited text, word for word, always passes; markup and line ends do not matter.
//! - A sentence with a number, unit, identifier or negation that the cited text does not have in that order never passes.
//! - The same input gives the same answer, whatever order maps have.
//!
//! # Deliberately unknown here
//!
//! Search, storage, models, transport, time. Whether a document is right: what is checked is that it says so.

mod choose;
mod cut;
mod facts;
mod quantity;
mod readable;
mod rephrase;
mod settings;
mod shorten;
mod tokens;
mod verify;

pub use choose::{Composed, Dropped, Sentence, Source, compose};
pub use cut::{Claim, ClaimKind, Form, ListPlace, cut, table_row};
pub use facts::{Fact, FactKind, facts, stems};
pub use readable::readable;
pub use rephrase::{Fault, verify_rephrasing};
pub use shorten::shorten;
pub use verify::{Check, Failure, Verdict, verify};
