//! What must always hold: what a source says passes, and what was changed does not.
#![allow(clippy::unwrap_used)]

use attain_grounding::{Check, ClaimKind, FactKind, Form, cut, facts, readable, shorten, verify};
use proptest::prelude::*;

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{2,9}",
        Just("restarts".to_owned()),
        Just("the".to_owned()),
        Just("before".to_owned()),
        Just("not".to_owned()),
        Just("never".to_owned()),
        Just("only".to_owned()),
    ]
}

fn number() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        Just(""),
        Just(" %"),
        Just(" min"),
        Just("m"),
        Just(" ms"),
        Just(" GiB"),
        Just("/s"),
        Just(" hours"),
        Just("-minute"),
    ];
    (0_u32..100_000, 0_u32..100, any::<bool>(), unit).prop_map(|(whole, part, with_part, unit)| {
        if with_part { format!("{whole}.{part:02}{unit}") } else { format!("{whole}{unit}") }
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z][a-z]{2,6}[A-Z][a-z]{2,6}",
        "[a-z]{2,6}_[a-z]{2,6}_total",
        "[a-z]{2,6}-[a-z]{2,6}-service",
        "/[a-z]{2,6}/[a-z]{2,6}\\.yaml",
        "--[a-z]{3,8}",
        "[a-z]{2,6}\\.[a-z]{2,6}",
    ]
}

#[derive(Debug, Clone)]
enum Part {
    Word(String),
    Number(String),
    Name(String),
}

fn sentence() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![
        6 => word().prop_map(Part::Word),
        1 => number().prop_map(Part::Number),
        1 => name().prop_map(Part::Name),
    ];
    proptest::collection::vec(part, 4..25)
}

fn text(parts: &[Part]) -> String {
    let words: Vec<&str> = parts
        .iter()
        .map(|part| match part {
            Part::Word(text) | Part::Number(text) | Part::Name(text) => text.as_str(),
        })
        .collect();
    format!("So {}.", words.join(" "))
}

/// The same words in Markdown: emphasis, code, links, line ends, a quotation.
fn dressed(parts: &[Part], dress: &[u8]) -> String {
    let mut out = String::from("So");
    for (place, part) in parts.iter().enumerate() {
        let how = dress[place % dress.len()];
        let (Part::Word(text) | Part::Number(text) | Part::Name(text)) = part;
        out.push_str(if how.is_multiple_of(5) { "\n  " } else { " " });
        match (part, how % 4) {
            (Part::Word(_), 1) => out.push_str(&format!("**{text}**")),
            (Part::Word(_), 2) => out.push_str(&format!("*{text}*")),
            (Part::Name(_), 1) => out.push_str(&format!("`{text}`")),
            (Part::Word(_), 3) => out.push_str(&format!("[{text}](https://docs.example/a-b)")),
            _ => out.push_str(text),
        }
    }
    out.push('.');
    out
}

fn passes(sentence: &str, source: &str) -> bool {
    verify(sentence, source, &|_| 1.0).is_supported()
}

proptest! {
    #[test]
    fn what_is_written_passes_whatever_its_markup(parts in sentence(), dress in proptest::collection::vec(any::<u8>(), 1..30)) {
        let (plain, markdown) = (text(&parts), dressed(&parts, &dress));
        for (said, source) in [(&plain, &plain), (&plain, &markdown), (&markdown, &markdown), (&readable(&markdown), &markdown)] {
            let verdict = verify(said, source, &|_| 1.0);
            prop_assert!(verdict.is_supported(), "{said:?} of {source:?}: {verdict:?}");
        }
        prop_assert!(passes(&shorten(&plain), &plain));
    }

    #[test]
    fn any_text_at_all_supports_itself(text in "\\PC{0,200}") {
        let failures = verify(&text, &text, &|_| 1.0).failures;
        prop_assert!(failures.iter().all(|failure| failure.check == Check::Empty), "{failures:?}");
    }

    #[test]
    fn a_changed_number_fails(parts in sentence(), other in number(), pick in any::<prop::sample::Index>()) {
        let places: Vec<usize> = parts.iter().enumerate().filter(|(_, p)| matches!(p, Part::Number(_))).map(|(i, _)| i).collect();
        prop_assume!(!places.is_empty());
        let mut changed = parts.clone();
        changed[*pick.get(&places)] = Part::Number(other);
        let numbers = |parts: &[Part]| -> Vec<String> {
            facts(&text(parts)).into_iter().filter(|f| f.kind == FactKind::Number).map(|f| f.canonical).collect()
        };
        prop_assume!(numbers(&changed) != numbers(&parts));
        // As many numbers in another form cannot all follow in order.
        prop_assume!(numbers(&changed).len() >= numbers(&parts).len());
        prop_assert!(!passes(&text(&changed), &text(&parts)));
    }

    #[test]
    fn a_swapped_name_fails(parts in sentence(), other in name(), pick in any::<prop::sample::Index>()) {
        let places: Vec<usize> = parts.iter().enumerate().filter(|(_, p)| matches!(p, Part::Name(_))).map(|(i, _)| i).collect();
        prop_assume!(!places.is_empty());
        let mut changed = parts.clone();
        changed[*pick.get(&places)] = Part::Name(other.clone());
        prop_assume!(!text(&parts).to_lowercase().contains(&other.to_lowercase()));
        prop_assert!(!passes(&text(&changed), &text(&parts)));
    }

    #[test]
    fn turned_negation_fails(parts in sentence(), at in any::<prop::sample::Index>(), how in 0_usize..5) {
        let mut changed = parts.clone();
        let turn = ["not", "never", "no", "unless", "without"][how];
        changed.insert(at.index(parts.len()), Part::Word(turn.to_owned()));
        prop_assert!(!passes(&text(&changed), &text(&parts)));
        prop_assert!(!passes(&text(&parts), &text(&changed)));
    }

    #[test]
    fn claims_of_any_document_support_themselves(
        text in "(# h[a-z]{0,9}\n|\n|- [A-Za-z0-9`*_ ]{1,40}\n|[A-Za-z0-9 `*_.,;:()%/\\-]{0,120}\n|\\| a b \\| 5 % \\|\n|\\|---\\|---\\|\n|```\n){0,25}"
    ) {
        for claim in cut(&text, Form::Markdown) {
            let said = if claim.kind == ClaimKind::Quote { claim.text.clone() } else { shorten(&claim.text) };
            for said in [&claim.text, &said] {
                let verdict = verify(said, &claim.source, &|_| 1.0);
                prop_assert!(verdict.is_supported(), "{said:?} of {:?}: {verdict:?}", claim.source);
            }
        }
    }
}
