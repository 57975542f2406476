//! The blocks of a document: paragraphs, list items, rows, code, each below its headings.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$"));
static UNDERLINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}(=+|-{2,})[ \t]*$"));
static RULE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$"));
static ITEM: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([ \t]*)([-*+]|\d{1,3}[.)])([ \t]+)(?:\[[ xX]\][ \t]+)?"));
static SEPARATOR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$"));
static YAML_ITEM: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*- (?:alert|name|record|kind|apiVersion):|^---[ \t]*$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// A part of a document, in bytes, without the marks around it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) range: Range<usize>,
    pub(super) headings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BlockKind {
    Paragraph,
    Item(Item),
    Header,
    Row,
    Quote,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) ordered: bool,
    /// Blanks before its mark.
    pub(super) depth: usize,
    /// A further paragraph of the item before.
    pub(super) continued: bool,
}

/// The cells of a row, trimmed.
pub(super) fn cells(row: &str) -> Vec<String> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let row = row.strip_suffix('|').filter(|rest| !rest.ends_with('\\')).unwrap_or(row);
    let (mut cells, mut cell, mut in_code, mut before) = (Vec::new(), String::new(), false, ' ');
    for c in row.chars() {
        match c {
            '`' => in_code = !in_code,
            '|' if before != '\\' && !in_code => {
                cells.push(std::mem::take(&mut cell).trim().to_owned());
                before = c;
                continue;
            }
            _ => {}
        }
        cell.push(c);
        before = c;
    }
    cells.push(cell.trim().to_owned());
    cells
}

/// The blocks of a Markdown text in order.
pub(super) fn markdown(text: &str) -> Vec<Block> {
    let lines: Vec<Line<'_>> = lines(text).collect();
    let mut reader = Reader {
        lines: &lines,
        at: front_matter(&lines),
        blocks: Vec::new(),
        path: Vec::new(),
        item: None,
        blank_before: true,
    };
    while reader.at < lines.len() {
        reader.step();
    }
    reader.blocks
}

/// The items of a YAML text in order, each of at most `lines_max` lines.
pub(super) fn yaml(text: &str, lines_max: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(Range<usize>, usize)> = None;
    let mut close = |open: &mut Option<(Range<usize>, usize)>| {
        if let Some((range, _)) = open.take() {
            blocks.push(Block { kind: BlockKind::Quote, range, headings: Vec::new() });
        }
    };
    for line in lines(text) {
        let content = line.text.trim_end();
        let full = open.as_ref().is_some_and(|(_, count)| *count >= lines_max);
        if YAML_ITEM.is_match(content) || full {
            close(&mut open);
        }
        if content.is_empty() || content == "---" {
            continue;
        }
        let end = line.start + content.len();
        match &mut open {
            Some((range, count)) => (range.end, *count) = (end, *count + 1),
            None => open = Some((line.start + content.len() - content.trim_start().len()..end, 1)),
        }
    }
    close(&mut open);
    blocks
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    start: usize,
    text: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start_matches([' ', '\t']).len()
    }

    fn content(&self) -> Range<usize> {
        let end = self.start + self.text.trim_end().len();
        (self.start + self.indent()).min(end)..end
    }

    fn fence(&self) -> Option<&str> {
        let trimmed = self.text.trim_start();
        let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let length = trimmed.chars().take_while(|c| *c == mark).count();
        (length >= 3).then(|| &trimmed[..length])
    }

    fn is_row(&self) -> bool {
        self.text.trim_start().starts_with('|') && self.text.trim().len() > 1
    }
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let this = Line { start, text: line.trim_end_matches('\n') };
        start += line.len();
        this
    })
}

/// The number of lines that the front matter takes.
fn front_matter(lines: &[Line<'_>]) -> usize {
    if lines.first().is_none_or(|line| line.text != "---") {
        return 0;
    }
    let end = lines.iter().skip(1).position(|line| line.text.trim_end() == "---");
    end.map_or(0, |end| end + 2)
}

struct Reader<'a> {
    lines: &'a [Line<'a>],
    at: usize,
    blocks: Vec<Block>,
    path: Vec<(usize, String)>,
    /// Where the text of the list item under way begins, and the item.
    item: Option<(usize, Item)>,
    blank_before: bool,
}

impl Reader<'_> {
    fn step(&mut self) {
        let line = self.lines[self.at];
        if line.is_blank() {
            self.at += 1;
            self.blank_before = true;
            return;
        }
        let blank_before = std::mem::replace(&mut self.blank_before, false);
        if self.item.as_ref().is_some_and(|(indent, _)| line.indent() < *indent) && blank_before {
            self.item = None;
        }
        if let Some(mark) = line.fence() {
            return self.fence(mark.to_owned());
        }
        if let Some(found) = HEADING.captures(line.text) {
            self.item = None;
            self.enter(found[1].len(), &found[2]);
            self.at += 1;
        } else if RULE.is_match(line.text) {
            self.item = None;
            self.at += 1;
        } else if line.is_row() {
            self.table();
        } else if let Some(found) = ITEM.captures(line.text) {
            let item = Item {
                ordered: found[2].starts_with(|c: char| c.is_ascii_digit()),
                depth: found[1].len(),
                continued: false,
            };
            let inner = found[1].len() + found[2].len() + found[3].len();
            let start = (line.start + found[0].len()).min(line.content().end);
            self.item = Some((inner, item.clone()));
            self.run(start, BlockKind::Item(item));
        } else {
            let kind = match &self.item {
                Some((_, item)) => BlockKind::Item(Item { continued: true, ..item.clone() }),
                None => BlockKind::Paragraph,
            };
            self.run(line.content().start, kind);
        }
    }

    /// A paragraph or item from `start` to the line before the next block.
    fn run(&mut self, start: usize, kind: BlockKind) {
        let mut end = self.lines[self.at].content().end;
        self.at += 1;
        while let Some(line) = self.lines.get(self.at) {
            if kind == BlockKind::Paragraph
                && let Some(mark) = UNDERLINE.captures(line.text)
            {
                let level = if mark[1].starts_with('=') { 1 } else { 2 };
                self.at += 1;
                let heading = self.slice(start..end);
                return self.enter(level, &heading);
            }
            let ends = line.is_blank()
                || line.fence().is_some()
                || line.is_row()
                || HEADING.is_match(line.text)
                || RULE.is_match(line.text)
                || ITEM.is_match(line.text);
            if ends {
                break;
            }
            end = line.content().end;
            self.at += 1;
        }
        self.push(kind, start..end);
    }

    fn slice(&self, range: Range<usize>) -> String {
        let within =
            self.lines.iter().filter(|line| line.start < range.end && line.start + line.text.len() > range.start);
        within.map(|line| line.text.trim()).collect::<Vec<_>>().join(" ")
    }

    fn table(&mut self) {
        let first = self.at;
        while self.lines.get(self.at).is_some_and(Line::is_row) {
            self.at += 1;
        }
        let rows = &self.lines[first..self.at];
        let has_header = rows.get(1).is_some_and(|line| SEPARATOR.is_match(line.text));
        let parts: Vec<(BlockKind, Range<usize>)> = rows
            .iter()
            .enumerate()
            .filter(|(_, line)| !SEPARATOR.is_match(line.text))
            .map(|(place, line)| {
                let kind = if has_header && place == 0 { BlockKind::Header } else { BlockKind::Row };
                (kind, line.content())
            })
            .collect();
        if !has_header {
            // Whatever header came before is another table's.
            self.push(BlockKind::Header, rows[0].content().start..rows[0].content().start);
        }
        for (kind, range) in parts {
            self.push(kind, range);
        }
    }

    fn fence(&mut self, mark: String) {
        let indent = self.lines[self.at].indent();
        if self.item.as_ref().is_some_and(|(inner, _)| indent < *inner) {
            self.item = None;
        }
        self.at += 1;
        let first = self.at;
        while self
            .lines
            .get(self.at)
            .is_some_and(|line| !line.fence().is_some_and(|end| end.starts_with(mark.as_str())))
        {
            self.at += 1;
        }
        let content = &self.lines[first..self.at];
        self.at += 1;
        let lines_max = crate::settings::shipped().choice.quote_lines_max;
        let parts: Vec<Range<usize>> = content
            .chunks(lines_max)
            .filter_map(|part| {
                let filled = || part.iter().filter(|line| !line.is_blank());
                let (first, last) = (filled().next()?, filled().next_back()?);
                Some(first.content().start..last.content().end)
            })
            .collect();
        for range in parts {
            self.push(BlockKind::Quote, range);
        }
    }

    fn enter(&mut self, level: usize, heading: &str) {
        let heading = crate::readable(heading).replace('`', "");
        self.path.retain(|(above, _)| *above < level);
        if !heading.is_empty() {
            self.path.push((level, heading));
        }
    }

    fn push(&mut self, kind: BlockKind, range: Range<usize>) {
        // An item without text says nothing; a header without text says that there is none.
        if range.is_empty() && kind != BlockKind::Header {
            return;
        }
        let headings = self.path.iter().map(|(_, heading)| heading.clone()).collect();
        self.blocks.push(Block { kind, range, headings });
    }
}
