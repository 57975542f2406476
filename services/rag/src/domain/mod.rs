//! What the service knows about documents and questions, without transport, storage, index, model or clock.

pub(crate) mod about;
pub(crate) mod breaker;
pub(crate) mod cleaning;
pub(crate) mod confidence;
pub(crate) mod document;
pub(crate) mod front_matter;
pub(crate) mod fusion;
pub(crate) mod glossary;
pub(crate) mod hidden;
pub(crate) mod instructions;
pub(crate) mod names;
pub(crate) mod outline;
pub(crate) mod passage;
pub(crate) mod preparation;
pub(crate) mod query;
pub(crate) mod rewording;
pub(crate) mod settings;
pub(crate) mod sketch;
pub(crate) mod slo_template;
pub(crate) mod standing;
pub(crate) mod terms;
pub(crate) mod tokens;
pub(crate) mod word_pieces;
