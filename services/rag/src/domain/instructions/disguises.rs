//! Readings of a text with disguises undone, each with the line that every place came from.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::sync::LazyLock;

use regex::Regex;

use crate::domain::hidden::is_invisible;

/// Shortest encoded text that is decoded, in characters: four words.
const ENCODED_LEN_MIN: usize = 24;
/// Most that is decoded of one document, in bytes.
const DECODED_BYTES_MAX: usize = 200_000;
/// Encodings inside encodings that are undone.
const DEPTH_MAX: usize = 3;
/// Fewest letters in a row, each by itself, that spell something.
const SPELLED_LEN_MIN: usize = 12;

/// Fewest words of a line in which digits stand for letters: one alone is a name such as `p99` or `k8s`.
const DISGUISED_WORDS_MIN: usize = 2;
/// Words without which a rotated or reversed text is chance.
const TELLING: [&str; 8] =
    ["instruction", "prompt", "ignore", "disregard", "assistant", "recommend", "tenant", "target"];

static BASE64: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{24,}={0,2}").expect("a valid pattern"));
static HEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:(?:0x|\\x)?[0-9a-fA-F]{2}[ ,:]?){12,}").expect("a valid pattern"));
static ESCAPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"&#(?:x[0-9a-fA-F]{1,6}|[0-9]{1,7});|%[0-9a-fA-F]{2}|\\u\{?[0-9a-fA-F]{4,6}\}?|\\x[0-9a-fA-F]{2}")
        .expect("a valid pattern")
});

/// A reading of a text.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) text: String,
    /// Where, in bytes of the reading, each line of the text begins.
    starts: Vec<(usize, u32)>,
}

impl View {
    /// The text as it is, without what cannot be seen.
    pub(super) fn raw(text: &str) -> Self {
        let mut view = Self::default();
        for (number, line) in lines(text) {
            view.begin(number);
            view.text.extend(line.chars().filter(|c| !is_invisible(*c)));
            view.text.push('\n');
        }
        view
    }

    /// Words in lower case, look-alikes as Latin letters, without accents, emphasis and repeated blanks.
    pub(super) fn plain(text: &str) -> Self {
        let mut view = Self { text: String::with_capacity(text.len()), starts: Vec::new() };
        view.take_lines(text);
        view
    }

    /// Readings of what is not written plainly.
    pub(super) fn disguised(text: &str) -> Vec<Self> {
        let mut views: Vec<Self> = ['i', 'l'].into_iter().map(|one| Self::with_digits_as_letters(text, one)).collect();
        views
            .extend([rotated as fn(&str) -> String, reversed].into_iter().filter_map(|read| Self::telling(text, read)));
        views.push(Self::of_tags(text));
        views.push(Self::unescaped(text));
        views.push(Self::decoded(text));
        views.retain(|view| !view.text.is_empty());
        views
    }

    /// Letters that stand one by one, joined, without blanks: `i g n o r e` is `ignore`.
    pub(super) fn spelled(text: &str) -> Self {
        let mut view = Self::default();
        for (number, line) in lines(text) {
            view.begin(number);
            let mut run = String::new();
            let folded: String = line.chars().filter(|c| !is_invisible(*c)).filter_map(folded).collect();
            for word in folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                if word.chars().count() == 1 {
                    run.push_str(word);
                    continue;
                }
                view.take_run(&mut run);
            }
            view.take_run(&mut run);
        }
        view
    }

    /// The line, from 1, that a place of the reading came from.
    pub(super) fn line_of(&self, at: usize) -> u32 {
        let next = self.starts.partition_point(|(start, _)| *start <= at);
        next.checked_sub(1).and_then(|index| self.starts.get(index)).map_or(1, |(_, line)| *line)
    }

    fn begin(&mut self, line: u32) {
        self.starts.push((self.text.len(), line));
    }

    fn take_run(&mut self, run: &mut String) {
        if run.len() >= SPELLED_LEN_MIN {
            self.text.push_str(run);
            self.text.push(' ');
        }
        run.clear();
    }

    fn push_words(&mut self, line: &str) {
        // The last character that is no mark of emphasis.
        let mut before = ' ';
        let mut chars = line.chars().filter(|c| !is_invisible(*c));
        while let Some(c) = chars.next() {
            match c {
                '*' | '_' | '~' | '`' => {
                    let after = chars.clone().find(|c| !is_emphasis(*c));
                    if !before.is_alphanumeric() || !after.is_some_and(char::is_alphanumeric) {
                        self.blank();
                    }
                    continue;
                }
                '#' | '>' | '|' | '"' | '\u{201c}' | '\u{201d}' | '(' | ')' | '[' | ']' => self.blank(),
                c if c.is_whitespace() => self.blank(),
                c => self.text.extend(folded(c)),
            }
            before = c;
        }
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    fn take_lines(&mut self, text: &str) {
        for (number, line) in lines(text) {
            self.begin(number);
            self.push_words(line);
            self.blank();
        }
    }

    /// A reading of the whole text, where it gives a word that orders have; none where it gives chance.
    fn telling(text: &str, read: impl Fn(&str) -> String) -> Option<Self> {
        let read: String = text.lines().map(|line| read(line) + "\n").collect();
        let lower = read.to_lowercase();
        if !TELLING.iter().any(|word| lower.contains(word)) {
            return None;
        }
        let mut view = Self::default();
        view.take_lines(&read);
        Some(view)
    }

    /// The lines in which digits stand for letters.
    fn with_digits_as_letters(text: &str, one: char) -> Self {
        let mut view = Self::default();
        for (number, line) in lines(text) {
            if let Some(plain) = digits_as_letters(line, one) {
                view.begin(number);
                view.push_words(&plain);
                view.blank();
            }
        }
        view
    }

    /// Tag characters, which nobody sees, as the letters that they stand for.
    fn of_tags(text: &str) -> Self {
        let mut view = Self::default();
        for (number, line) in lines(text) {
            let letters = line.chars().filter_map(|c| u32::from(c).checked_sub(0xe0000)).filter(|code| *code < 0x80);
            let told: String = letters.filter_map(char::from_u32).collect();
            if !told.is_empty() {
                view.begin(number);
                view.push_words(&told);
                view.blank();
            }
        }
        view
    }

    /// Character references, percent signs and escapes as what they stand for.
    fn unescaped(text: &str) -> Self {
        let mut view = Self::default();
        for (number, line) in lines(text).filter(|(_, line)| ESCAPED.is_match(line)) {
            view.begin(number);
            view.push_words(&ESCAPED.replace_all(line, |found: &regex::Captures<'_>| unescaped(&found[0])));
            view.blank();
        }
        view
    }

    /// What base64 and hexadecimal digits stand for, where that is text.
    fn decoded(text: &str) -> Self {
        let mut view = Self::default();
        let mut left = DECODED_BYTES_MAX;
        for (number, line) in lines(text) {
            for plain in decoded(line, DEPTH_MAX) {
                if let Some(rest) = left.checked_sub(plain.len()) {
                    left = rest;
                    view.begin(number);
                    view.push_words(&plain);
                    view.blank();
                }
            }
        }
        view
    }
}

/// A word of at least three letters, some Latin and some of another script that look like Latin ones.
pub(super) fn mixed_word(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_alphanumeric()).find(|word| {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        let latin = word.chars().any(|c| c.is_ascii_alphabetic());
        letters >= 3 && latin && word.chars().any(|c| look_alike(c.to_lowercase().next().unwrap_or(c)).is_some())
    })
}

fn is_emphasis(c: char) -> bool {
    matches!(c, '*' | '_' | '~' | '`')
}

fn lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1_u32..).zip(text.lines())
}

/// Digits and signs that stand for letters, in words that have letters too; `None` where there is no such word.
fn digits_as_letters(line: &str, one: char) -> Option<String> {
    let letter = |c: char| match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    };
    let mut found = 0_usize;
    let mut word = |word: &str| -> String {
        let (body, end) = word.split_at(word.trim_end_matches(['!', '|', '.', ',']).len());
        if !body.chars().any(char::is_alphabetic) || body.chars().all(|c| letter(c) == c) {
            return word.to_owned();
        }
        found += 1;
        body.chars().map(letter).chain(end.chars()).collect()
    };
    let plain: String = line
        .split_inclusive(char::is_whitespace)
        .map(|part| {
            let (body, blank) = part.split_at(part.trim_end().len());
            word(body) + blank
        })
        .collect();
    (found >= DISGUISED_WORDS_MIN).then_some(plain)
}

/// By thirteen places, the customary rotation.
fn rotated(text: &str) -> String {
    let rotate = |c: char, first: u8| char::from(first + (c as u8 - first + 13) % 26);
    text.chars()
        .map(|c| match c {
            'a'..='z' => rotate(c, b'a'),
            'A'..='Z' => rotate(c, b'A'),
            c => c,
        })
        .collect()
}

/// From its end.
fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn unescaped(text: &str) -> String {
    let (digits, radix) = match text.strip_prefix("&#") {
        Some(rest) => match rest.trim_end_matches(';').strip_prefix('x') {
            Some(hex) => (hex, 16),
            None => (rest.trim_end_matches(';'), 10),
        },
        None => (text.trim_start_matches(['%', '\\', 'u', 'x', '{']).trim_end_matches('}'), 16),
    };
    u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).map_or_else(|| text.to_owned(), String::from)
}

/// Texts that the encoded parts of a line stand for, those inside them included.
fn decoded(line: &str, depth: usize) -> Vec<String> {
    if depth == 0 || line.len() < ENCODED_LEN_MIN {
        return Vec::new();
    }
    let from_base64 = BASE64.find_iter(line).filter_map(|found| {
        let text = found.as_str().trim_end_matches('=');
        STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()
    });
    let from_hex = HEX.find_iter(line).filter_map(|found| {
        let digits: String =
            found.as_str().replace("0x", "").replace("\\x", "").chars().filter(char::is_ascii_hexdigit).collect();
        hex::decode(digits).ok()
    });
    let mut texts = Vec::new();
    for bytes in from_base64.chain(from_hex) {
        if let Ok(text) = String::from_utf8(bytes)
            && is_text(&text)
        {
            texts.extend(decoded(&text, depth - 1));
            texts.push(text);
        }
    }
    texts
}

/// Whether a decoded string is text rather than chance.
fn is_text(text: &str) -> bool {
    let count = text.chars().count().max(1);
    text.chars().filter(|c| c.is_alphanumeric() || " .,:;!?'\"-_/%@=+\n".contains(*c)).count() * 10 >= count * 9
}

/// A character in lower case, as the Latin letter that it looks like or derives from; `None` for a combining mark.
fn folded(c: char) -> Option<char> {
    if matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
    {
        return None;
    }
    if c.is_ascii() {
        return Some(c.to_ascii_lowercase());
    }
    let styled = styled(c).unwrap_or(c);
    let lower = styled.to_lowercase().next().unwrap_or(styled);
    Some(look_alike(lower).or_else(|| accented(lower)).unwrap_or(lower))
}

/// Full-width, mathematical, circled and small-capital letters.
fn styled(c: char) -> Option<char> {
    let code = u32::from(c);
    let letter = |offset: u32| char::from_u32(u32::from('a') + offset % 26);
    match code {
        0xff01..=0xff5e => char::from_u32(code - 0xfee0),
        0x1d400..=0x1d6a3 => letter((code - 0x1d400) % 26),
        0x1d7ce..=0x1d7ff => char::from_u32(u32::from('0') + (code - 0x1d7ce) % 10),
        0x24b6..=0x24e9 => letter(code - 0x24b6),
        0x1f130..=0x1f149 => letter(code - 0x1f130),
        0x1f150..=0x1f169 => letter(code - 0x1f150),
        0x1f170..=0x1f189 => letter(code - 0x1f170),
        _ => {
            let small = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡxʏᴢ".chars().position(|small| small == c)?;
            letter(u32::try_from(small).ok()?)
        }
    }
}

/// Letters of other scripts in lower case that look like a Latin one. Those that units and formulas use are left out: µ, π, Δ, Ω, σ, λ.
fn look_alike(c: char) -> Option<char> {
    const FROM: &str = "авеёкмнорстухіїјѕԁһӏԛԝαεικνορτυχηγօսոհցϲϳ";
    const TO: &str = "abeekmhopctyxiijsdhlqwaeikvoptuxnyounhgcj";
    FROM.chars().zip(TO.chars()).find(|(from, _)| *from == c).map(|(_, to)| to)
}

/// Latin letters with accents.
fn accented(c: char) -> Option<char> {
    Some(match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ę' | 'ě' | 'ė' => 'e',
        'ğ' | 'ģ' => 'g',
        'ì'..='ï' | 'ī' | 'ı' | 'į' => 'i',
        'ł' | 'ľ' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' | 'ſ' => 's',
        'ť' | 'ț' | 'ţ' => 't',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ž' | 'ź' | 'ż' => 'z',
        _ => return None,
    })
}
