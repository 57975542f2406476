//! The structure of a text: front matter, headings, and the blocks between them, each with its place.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::hidden::fence_mark;

/// Lines after which a YAML block may end at the next top-level key.
const YAML_BLOCK_LINES: usize = 12;

static HEADING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$").expect("a valid pattern"));
static FRONT_TITLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^title:[ \t]*(.+?)[ \t]*$").expect("a valid pattern"));
static YAML_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:- )?(?:alert|name|displayName|service_name|slo_name|title|record):[ \t]*(.+?)[ \t]*$")
        .expect("a valid pattern")
});
static YAML_ITEM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*- (?:alert|name|record|kind|apiVersion):").expect("a valid pattern"));

/// The structure of a text. Ranges are in bytes and fall on character boundaries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outline {
    /// The title that the front matter names.
    pub(crate) front_matter_title: Option<String>,
    /// Every heading in order, without its marks; for YAML the names that its items carry.
    pub(crate) headings: Vec<String>,
    /// The text between headings, cut at blank lines (code fences stay whole); in order, disjoint, none of them blank.
    pub(crate) blocks: Vec<Block>,
}

/// A paragraph, list, table, code fence or YAML item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it is.
    pub(crate) range: Range<usize>,
    /// The headings above it, outermost first.
    pub(crate) headings: Vec<String>,
    /// Whether it is the first below its heading.
    pub(crate) begins_section: bool,
}

impl Outline {
    /// Reads the structure of a text.
    pub(crate) fn of(text: &str, is_yaml: bool) -> Self {
        let reader = Reader { text, outline: Self::default(), path: Vec::new(), open: None, begins_section: true };
        if is_yaml { reader.read_yaml() } else { reader.read_markdown() }
    }
}

struct Reader<'a> {
    text: &'a str,
    outline: Outline,
    /// Headings above the current place, with their levels.
    path: Vec<(usize, String)>,
    /// Where the block under way starts.
    open: Option<usize>,
    begins_section: bool,
}

impl Reader<'_> {
    fn read_markdown(mut self) -> Outline {
        let mut at = self.read_front_matter();
        let mut fence: Option<String> = None;
        let text = self.text;
        for line in text[at..].split_inclusive('\n') {
            let content = line.trim_end_matches('\n');
            let mark = fence_mark(content);
            match (&fence, mark) {
                (None, Some(mark)) => {
                    fence = Some(mark.to_owned());
                    self.open.get_or_insert(at);
                }
                (Some(open), Some(mark)) if mark.starts_with(open.as_str()) => fence = None,
                (Some(_), _) => {}
                (None, None) => self.read_line(at, content),
            }
            at += line.len();
        }
        self.close(text.len());
        self.outline
    }

    fn read_line(&mut self, at: usize, line: &str) {
        if let Some(heading) = HEADING.captures(line) {
            self.close(at);
            self.enter(heading[1].len(), plain(&heading[2]));
        } else if line.trim().is_empty() {
            self.close(at);
        } else {
            self.open.get_or_insert(at);
        }
    }

    fn read_yaml(mut self) -> Outline {
        let (mut at, mut lines) = (0, 0);
        let text = self.text;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end();
            let item = YAML_ITEM.is_match(content) || content == "---";
            let late_key = lines >= YAML_BLOCK_LINES && content.starts_with(|c: char| !c.is_whitespace());
            if item || late_key {
                self.close(at);
                (self.begins_section, lines) = (item, 0);
            }
            if let Some(name) = YAML_NAME.captures(content) {
                self.outline.headings.push(name[1].trim_matches(['"', '\'']).to_owned());
            }
            if content != "---" && !content.trim().is_empty() {
                self.open.get_or_insert(at);
            }
            (at, lines) = (at + line.len(), lines + 1);
        }
        self.close(text.len());
        self.outline
    }

    /// Reads `---` … `---` at the very start and returns where the text begins.
    fn read_front_matter(&mut self) -> usize {
        let Some(body) = self.text.strip_prefix("---\n") else { return 0 };
        let mut at = 4;
        for line in body.split_inclusive('\n') {
            if line.trim_end() == "---" {
                let title = FRONT_TITLE.captures(&self.text[4..at]);
                self.outline.front_matter_title = title.map(|found| found[1].trim_matches(['"', '\'']).to_owned());
                return at + line.len();
            }
            at += line.len();
        }
        0
    }

    fn enter(&mut self, level: usize, heading: String) {
        self.path.retain(|(above, _)| *above < level);
        if !heading.is_empty() {
            self.outline.headings.push(heading.clone());
            self.path.push((level, heading));
        }
        self.begins_section = true;
    }

    /// Ends the block under way at `end`, without the blanks around it.
    fn close(&mut self, end: usize) {
        let Some(start) = self.open.take() else { return };
        let content = &self.text[start..end];
        let lead = content.len() - content.trim_start_matches('\n').len();
        let range = start + lead..start + content.trim_end().len();
        if range.is_empty() {
            return;
        }
        let headings = self.path.iter().map(|(_, heading)| heading.clone()).collect();
        self.outline.blocks.push(Block { range, headings, begins_section: self.begins_section });
        self.begins_section = false;
    }
}

/// A heading without code and emphasis marks.
fn plain(heading: &str) -> String {
    heading.replace(['`', '*'], "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARKDOWN: &str = "---\ntitle: Front\n---\n\nintro\n\n# One\ntext a\n\n```sh\n# no heading\n\nstill code\n```\n\n## Two `x`\n| a | b |\n|---|---|\n| 1 | 2 |\n\n# Three\n";

    #[test]
    fn markdown_falls_into_blocks_below_headings() {
        let outline = Outline::of(MARKDOWN, false);
        assert_eq!(outline.front_matter_title.as_deref(), Some("Front"));
        assert_eq!(outline.headings, ["One", "Two x", "Three"]);
        let blocks: Vec<(&str, Vec<&str>, bool)> = outline
            .blocks
            .iter()
            .map(|b| (&MARKDOWN[b.range.clone()], b.headings.iter().map(String::as_str).collect(), b.begins_section))
            .collect();
        assert_eq!(
            blocks,
            [
                ("intro", vec![], true),
                ("text a", vec!["One"], true),
                ("```sh\n# no heading\n\nstill code\n```", vec!["One"], false),
                ("| a | b |\n|---|---|\n| 1 | 2 |", vec!["One", "Two x"], true),
            ]
        );
    }

    #[test]
    fn yaml_falls_into_items() {
        let text = "groups:\n- name: shop\n  rules:\n  - alert: CheckoutSlow\n    expr: x > 1\n  - alert: CheckoutDown\n    expr: y\n";
        let outline = Outline::of(text, true);
        assert_eq!(outline.headings, ["shop", "CheckoutSlow", "CheckoutDown"]);
        assert_eq!(outline.blocks.len(), 4);
        assert!(text[outline.blocks[3].range.clone()].trim_start().starts_with("- alert: CheckoutDown"));
    }

    #[test]
    fn front_matter_without_an_end_is_text() {
        assert_eq!(Outline::of("---\ntitle: x\n", false).front_matter_title, None);
    }

    proptest! {
        #[test]
        fn blocks_are_in_order_disjoint_and_not_blank(
            text in "(---\n|# h\n|## i\n|```\n|~~~~\n|\n|  \n|\\| a \\|\n|- alert: A\n|k: v\n|é\n|text ){0,30}", is_yaml: bool
        ) {
            let outline = Outline::of(&text, is_yaml);
            let mut end = 0;
            for block in &outline.blocks {
                prop_assert!(block.range.start >= end);
                prop_assert!(!text[block.range.clone()].trim().is_empty());
                end = block.range.end;
            }
        }
    }
}
