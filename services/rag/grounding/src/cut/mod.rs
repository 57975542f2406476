//! Reads a document into claims: sentences, list items, table rows, commands and YAML items, each with its place.

mod blocks;
mod sentence;

use std::ops::Range;

use crate::readable::readable;
use crate::settings;
use blocks::{Block, BlockKind, Item};

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Markdown or plain text.
    Markdown,
    /// YAML: every item is quoted as it is.
    Yaml,
}

/// Something that a document says in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is.
    pub kind: ClaimKind,
    /// Where it stands, in Unicode scalar values of the document; for a row the header first, then the row. Never empty, in order.
    pub spans: Vec<Range<usize>>,
    /// The text that it is checked against: what the spans hold, for a row each cell behind its header.
    pub source: String,
    /// As a person reads it.
    pub text: String,
    /// Headings above it, outermost first.
    pub headings: Vec<String>,
    /// Its place in a list.
    pub list: Option<ListPlace>,
    /// The claim right before it in the same paragraph, which it may point back at.
    pub previous: Option<usize>,
}

/// What a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimKind {
    /// A sentence of a paragraph.
    Sentence,
    /// A list item, or a sentence of a long one.
    Item,
    /// A row of a table with its headers.
    Row,
    /// A command, code or YAML item, which is only ever quoted as it is.
    Quote,
}

/// Where in a list a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPlace {
    /// Number of the list in the document, from 0.
    pub list: usize,
    /// Position of the item in its list, from 1.
    pub ordinal: usize,
    /// Whether the items are numbered.
    pub ordered: bool,
    /// The claim that leads into the list.
    pub lead: Option<usize>,
}

/// The claims of a document in order.
pub fn cut(text: &str, form: Form) -> Vec<Claim> {
    let blocks = match form {
        Form::Markdown => blocks::markdown(text),
        Form::Yaml => blocks::yaml(text, settings::shipped().choice.quote_lines_max),
    };
    let mut cutter = Cutter { text, counted: (0, 0), claims: Vec::new(), open: Vec::new(), lists: 0, row_header: None };
    for block in &blocks {
        cutter.take(block);
    }
    cutter.claims
}

/// A row as it is read: every cell behind the header of its column, `header: cell; header: cell`.
pub fn table_row(header: &str, row: &str) -> String {
    let (headers, cells) = (blocks::cells(header), blocks::cells(row));
    let pair = |(place, cell): (usize, &String)| match headers.get(place).filter(|header| !header.is_empty()) {
        Some(header) => format!("{header}: {cell}"),
        None => cell.clone(),
    };
    let pairs: Vec<String> = cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()).map(pair).collect();
    pairs.join("; ")
}

struct Cutter<'a> {
    text: &'a str,
    /// Bytes and characters up to a place already passed, so that counting is linear.
    counted: (usize, usize),
    claims: Vec<Claim>,
    /// The lists under way, outermost first.
    open: Vec<OpenList>,
    lists: usize,
    row_header: Option<Range<usize>>,
}

struct OpenList {
    list: usize,
    ordinal: usize,
    ordered: bool,
    depth: usize,
    lead: Option<usize>,
}

impl Cutter<'_> {
    fn take(&mut self, block: &Block) {
        if !matches!(block.kind, BlockKind::Item(_) | BlockKind::Quote) {
            self.open.clear();
        }
        match &block.kind {
            BlockKind::Paragraph => self.sentences(block, ClaimKind::Sentence, None),
            BlockKind::Quote => self.quote(block),
            BlockKind::Header => self.row_header = Some(block.range.clone()).filter(|range| !range.is_empty()),
            BlockKind::Row => self.row(block),
            BlockKind::Item(item) => self.item(block, item),
        }
    }

    fn item(&mut self, block: &Block, item: &Item) {
        if item.continued && !self.open.is_empty() {
            let place = self.place();
            return self.sentences(block, ClaimKind::Item, place);
        }
        self.open.retain(|open| open.depth <= item.depth);
        let continues = self.open.last().is_some_and(|open| open.depth == item.depth && open.ordered == item.ordered);
        if !continues {
            self.open.retain(|open| open.depth < item.depth);
            let lead = self.claims.len().checked_sub(1).filter(|last| self.claims[*last].text.ends_with(':'));
            self.open.push(OpenList { list: self.lists, ordinal: 0, ordered: item.ordered, depth: item.depth, lead });
            self.lists += 1;
        }
        if let Some(open) = self.open.last_mut() {
            open.ordinal += 1;
        }
        let place = self.place();
        let short = block.range.len() <= settings::shipped().choice.item_chars_max;
        if short {
            self.push(ClaimKind::Item, vec![block.range.clone()], &block.headings, place, None);
        } else {
            self.sentences(block, ClaimKind::Item, place);
        }
    }

    fn place(&self) -> Option<ListPlace> {
        let open = self.open.last()?;
        Some(ListPlace { list: open.list, ordinal: open.ordinal, ordered: open.ordered, lead: open.lead })
    }

    fn sentences(&mut self, block: &Block, kind: ClaimKind, list: Option<ListPlace>) {
        let mut previous = None;
        for part in sentence::split(&self.text[block.range.clone()]) {
            let range = block.range.start + part.start..block.range.start + part.end;
            if self.push(kind, vec![range], &block.headings, list, previous) {
                previous = self.claims.len().checked_sub(1);
            }
        }
    }

    fn row(&mut self, block: &Block) {
        let spans: Vec<Range<usize>> = self.row_header.iter().cloned().chain([block.range.clone()]).collect();
        self.push(ClaimKind::Row, spans, &block.headings, None, None);
    }

    fn quote(&mut self, block: &Block) {
        let list = self.place();
        self.push(ClaimKind::Quote, vec![block.range.clone()], &block.headings, list, None);
    }

    /// Adds a claim where there is anything to read; says whether it did.
    fn push(
        &mut self,
        kind: ClaimKind,
        bytes: Vec<Range<usize>>,
        headings: &[String],
        list: Option<ListPlace>,
        previous: Option<usize>,
    ) -> bool {
        let parts: Vec<&str> = bytes.iter().map(|range| &self.text[range.clone()]).collect();
        let (source, text) = match (kind, parts.as_slice()) {
            (ClaimKind::Row, [header, row]) => {
                let row = table_row(header, row);
                (row.clone(), readable(&row))
            }
            (ClaimKind::Row, [row, ..]) => {
                let row = table_row("", row);
                (row.clone(), readable(&row))
            }
            (ClaimKind::Quote, parts) => (parts.concat(), dedented(&parts.concat(), self.indent_before(&bytes))),
            (_, parts) => (parts.concat(), readable(&parts.concat())),
        };
        if !text.chars().any(char::is_alphanumeric) {
            return false;
        }
        let spans = bytes.iter().map(|range| self.chars(range)).collect();
        self.claims.push(Claim { kind, spans, source, text, headings: headings.to_vec(), list, previous });
        true
    }

    /// Blanks of the line that a part begins in, before it.
    fn indent_before(&self, bytes: &[Range<usize>]) -> usize {
        let start = bytes.first().map_or(0, |range| range.start);
        start - self.text[..start].rfind('\n').map_or(0, |at| at + 1)
    }

    fn chars(&mut self, bytes: &Range<usize>) -> Range<usize> {
        let start = self.chars_at(bytes.start);
        start..start + self.text[bytes.clone()].chars().count()
    }

    fn chars_at(&mut self, byte: usize) -> usize {
        let (bytes, chars) = self.counted;
        // Headers of tables lie behind what was counted.
        self.counted = if byte >= bytes {
            (byte, chars + self.text[bytes..byte].chars().count())
        } else {
            (byte, chars - self.text[byte..bytes].chars().count())
        };
        self.counted.1
    }
}

/// Lines without the blanks that all of them begin with; the first was cut at its first letter, and had `first` before it.
fn dedented(text: &str, first: usize) -> String {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let further = text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(indent);
    let least = further.min().unwrap_or(first).min(first);
    let cut = |(place, line): (usize, &str)| match place {
        0 => format!("{}{line}", " ".repeat(first - least)),
        _ => line.get(least..).unwrap_or_default().to_owned(),
    };
    text.lines().enumerate().map(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNBOOK: &str = "---\ntitle: Front\n---\n\n# Provider\n\n## Alert\n\n`Down` pages at 5 %. It clears by itself\nafter e.g. 10 min.\n\n\
        ## Steps\n\nDo this:\n\n1. Compare **codes**. Then wait.\n\n   ```sh\n   kubectl get pod\n     -n shop\n   ```\n\n2. Open it.\n- bullet\n\n\
        | time | event |\n|---|---|\n| 19:22 | calls rise to 81/s |\n";

    fn slices<'a>(text: &'a str, claim: &Claim) -> Vec<&'a str> {
        let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
        claim.spans.iter().map(|span| &text[byte(span.start)..byte(span.end)]).collect()
    }

    #[test]
    fn a_runbook_falls_into_claims() {
        let claims = cut(RUNBOOK, Form::Markdown);
        let said: Vec<(ClaimKind, &str)> = claims.iter().map(|claim| (claim.kind, claim.text.as_str())).collect();
        assert_eq!(
            said,
            [
                (ClaimKind::Sentence, "`Down` pages at 5 %."),
                (ClaimKind::Sentence, "It clears by itself after e.g. 10 min."),
                (ClaimKind::Sentence, "Do this:"),
                (ClaimKind::Item, "Compare codes. Then wait."),
                (ClaimKind::Quote, "kubectl get pod\n  -n shop"),
                (ClaimKind::Item, "Open it."),
                (ClaimKind::Item, "bullet"),
                (ClaimKind::Row, "time: 19:22; event: calls rise to 81/s"),
            ]
        );
        assert_eq!(claims[1].previous, Some(0));
        assert_eq!(claims[0].headings, ["Provider", "Alert"]);
        let place = |list, ordinal, ordered, lead| Some(ListPlace { list, ordinal, ordered, lead });
        let places: Vec<Option<ListPlace>> = claims[3..7].iter().map(|claim| claim.list).collect();
        let expected = [
            place(0, 1, true, Some(2)),
            place(0, 1, true, Some(2)),
            place(0, 2, true, Some(2)),
            place(1, 1, false, None),
        ];
        assert_eq!(places, expected);
        assert_eq!(slices(RUNBOOK, &claims[7]), ["| time | event |", "| 19:22 | calls rise to 81/s |"]);
        assert_eq!(slices(RUNBOOK, &claims[3]), ["Compare **codes**. Then wait."]);
    }

    #[test]
    fn yaml_is_quoted_by_item() {
        let text = "groups:\n- name: shop\n  rules:\n  - alert: Slow\n    expr: x > 1\n  - alert: Down\n    expr: y\n";
        let claims = cut(text, Form::Yaml);
        let said: Vec<&str> = claims.iter().map(|claim| claim.text.as_str()).collect();
        assert_eq!(
            said,
            ["groups:", "- name: shop\n  rules:", "- alert: Slow\n  expr: x > 1", "- alert: Down\n  expr: y"]
        );
    }

    proptest! {
        #[test]
        fn every_span_is_the_stored_text(
            text in "(---\n|# h[a-z]{0,9}\n|## i\n|```\n|\n|- [a-zé ]{1,20}\n|  [a-z]{1,9}\\. [A-Z][a-z]{1,9}\n|1\\. [a-z]{1,9}\n|> q\n|\\| é \\| ж \\|\n|\\|--\\|--\\|\n|[a-zäß数 .`*]{0,80}\n){0,25}",
            is_yaml: bool
        ) {
            let form = if is_yaml { Form::Yaml } else { Form::Markdown };
            let count = text.chars().count();
            for claim in cut(&text, form) {
                prop_assert!(!claim.spans.is_empty());
                for span in &claim.spans {
                    prop_assert!(span.start < span.end && span.end <= count);
                }
                if claim.kind != ClaimKind::Row {
                    prop_assert_eq!(slices(&text, &claim).concat(), claim.source.clone());
                }
                let verdict = crate::verify(&claim.text, &claim.source, &|_| 1.0);
                prop_assert!(verdict.is_supported(), "{:?} {:?}", claim, verdict);
            }
        }
    }
}
