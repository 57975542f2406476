//! Chooses what to say: the claims that answer a question, in the order of their documents, each checked before it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::cut::{Claim, ClaimKind};
use crate::facts::stems;
use crate::settings::{self, Choice, Intent};
use crate::shorten::shorten;
use crate::verify::{Check, Failure, verify};

/// A document that may answer.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its title.
    pub title: &'a str,
    /// What it says, in order.
    pub claims: &'a [Claim],
    /// The passages that were found in it, best first, in Unicode scalar values.
    pub passages: &'a [Range<usize>],
}

/// A sentence of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// What is said.
    pub text: String,
    /// Which of the sources says it.
    pub source: usize,
    /// Where, in Unicode scalar values of that document; at least one place.
    pub spans: Vec<Range<usize>>,
    /// The text that it was checked against.
    pub evidence: String,
    /// How well it answers, above 0; comparable within one answer only.
    pub score: f64,
    /// Whether it is a command or an item of a file, quoted as it is.
    pub is_quote: bool,
    /// Whether it is a row of a table: its first place is the header.
    pub is_row: bool,
}

/// A claim that was chosen and did not stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropped {
    /// Which of the sources makes it.
    pub source: usize,
    /// Where.
    pub spans: Vec<Range<usize>>,
    /// Why it is not said.
    pub failure: Failure,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Composed {
    /// What is said, by document in the order of the sources, then in the order of the text.
    pub sentences: Vec<Sentence>,
    /// What was to be said and did not pass.
    pub dropped: Vec<Dropped>,
}

/// Answers a question out of documents, best first, in at most `sentences_max` sentences. `weigh` gives the weight of a stemmed word.
///
/// A sentence that points back brings the one before, an item the line that leads into its list, a step the command below it. The
/// numbered list that holds the best step is told whole where it is about what to do and there is room for it.
pub fn compose(question: &str, sources: &[Source<'_>], weigh: &dyn Fn(&str) -> f64, sentences_max: usize) -> Composed {
    let chooser = Chooser::new(question, sources, weigh);
    let mut chosen: BTreeMap<Place, f64> = BTreeMap::new();
    let ranked = chooser.ranked();
    let Some((_, best)) = ranked.first().copied() else { return Composed::default() };
    for (place, score) in ranked {
        if chosen.len() >= sentences_max || score <= 0.0 || score < best * chooser.choice.relative_min {
            break;
        }
        if !chooser.is_said(place, &chosen) {
            chosen.insert(place, score);
        }
    }
    chooser.whole_list(sentences_max, &mut chosen);
    chooser.leads_and_commands(sentences_max, &mut chosen);
    let mut composed = Composed::default();
    for (place, score) in &chosen {
        match chooser.say(*place, *score, &chosen) {
            Ok(sentence) => composed.sentences.push(sentence),
            Err(dropped) => composed.dropped.push(dropped),
        }
    }
    composed
}

/// Characters around a passage in which claims are read.
const REACH_CHARS: usize = 4000;

/// What a claim gets of the score of the one that it is told with.
const STEP_SHARE: f64 = 0.5;

/// A source and a claim of it.
type Place = (usize, usize);

struct Chooser<'a> {
    sources: &'a [Source<'a>],
    weigh: &'a dyn Fn(&str) -> f64,
    choice: Choice,
    asked: BTreeSet<String>,
    intents: Vec<&'static Intent>,
    /// Content words of every claim.
    words: Vec<Vec<BTreeSet<String>>>,
}

impl<'a> Chooser<'a> {
    fn new(question: &str, sources: &'a [Source<'a>], weigh: &'a dyn Fn(&str) -> f64) -> Self {
        let settings = settings::shipped();
        let spoken: BTreeSet<String> = question.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
        let intents = settings.intents.iter().filter(|intent| !intent.question.is_disjoint(&spoken)).collect();
        let words = |source: &Source<'_>| -> Vec<BTreeSet<String>> {
            let words = |claim: &Claim| stems(&claim.text).into_iter().collect();
            source
                .claims
                .iter()
                .map(|claim| if is_near(source, claim) { words(claim) } else { BTreeSet::new() })
                .collect()
        };
        Self {
            sources,
            weigh,
            choice: settings.choice,
            asked: stems(question).into_iter().collect(),
            intents,
            words: sources.iter().map(words).collect(),
        }
    }

    fn claim(&self, place: Place) -> &'a Claim {
        &self.sources[place.0].claims[place.1]
    }

    /// Every claim with its score, best first; equal scores in the order of the sources and their text.
    fn ranked(&self) -> Vec<(Place, f64)> {
        let mut ranked = Vec::new();
        let mut of_document = 1.0;
        for (number, source) in self.sources.iter().enumerate() {
            let title: BTreeSet<String> = stems(source.title).into_iter().collect();
            let has_sentences = source.claims.iter().any(|claim| claim.kind != ClaimKind::Quote);
            let mut headings: BTreeMap<&[String], (BTreeSet<String>, f64)> = BTreeMap::new();
            for (place, claim) in source.claims.iter().enumerate().filter(|(_, claim)| is_near(source, claim)) {
                let (of_headings, about) = headings
                    .entry(claim.headings.as_slice())
                    .or_insert_with(|| (stems(&claim.headings.join(" ")).into_iter().collect(), self.about(claim)));
                let score = self.score(source, claim, &self.words[number][place], of_headings, &title) + *about;
                let share = if claim.kind == ClaimKind::Quote && has_sentences { self.choice.quote_share } else { 1.0 };
                ranked.push(((number, place), score * share * of_document));
            }
            of_document *= self.choice.document_decay;
        }
        ranked.sort_by(|(a, left), (b, right)| right.total_cmp(left).then_with(|| a.cmp(b)));
        ranked
    }

    fn score(
        &self,
        source: &Source<'_>,
        claim: &Claim,
        words: &BTreeSet<String>,
        headings: &BTreeSet<String>,
        title: &BTreeSet<String>,
    ) -> f64 {
        let choice = &self.choice;
        let (mut said, mut total) = (0.0, 0.0);
        for word in &self.asked {
            let weight = (self.weigh)(word).max(0.0);
            total += weight;
            let share = if words.contains(word) {
                1.0
            } else if headings.contains(word) {
                choice.heading_weight
            } else if title.contains(word) {
                choice.title_weight
            } else {
                0.0
            };
            said += weight * share;
        }
        let coverage = if total > 0.0 { said / total } else { 0.0 };
        let found = source.passages.iter().position(|passage| overlaps(passage, claim));
        let found = found.map_or(0.0, |rank| std::iter::repeat_n(choice.passage_decay, rank).product::<f64>());
        let back = if points_back(claim) || claim.text.ends_with('?') { choice.pointing_back_weight } else { 0.0 };
        choice.question_weight * coverage + choice.passage_weight * found - back
    }

    /// What a section adds: it is about what is asked, or about what to do where nothing is said. One that is about something
    /// else than a question asks for takes away: its sentences share the question's words without answering it.
    fn about(&self, claim: &Claim) -> f64 {
        let spoken: BTreeSet<String> = claim
            .headings
            .last()
            .map(|heading| heading.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect())
            .unwrap_or_default();
        let is_about = |intent: &&Intent| !intent.headings.is_disjoint(&spoken);
        if self.intents.iter().any(is_about) {
            return self.choice.intent_weight;
        }
        let intents = &settings::shipped().intents;
        if !self.intents.is_empty() {
            return if intents.iter().any(|intent| is_about(&intent)) { -self.choice.other_intent_weight } else { 0.0 };
        }
        let by_default = intents.iter().any(|intent| intent.name == "act" && is_about(&intent));
        if by_default { self.choice.intent_weight / 2.0 } else { 0.0 }
    }

    /// Whether something chosen already says the same.
    fn is_said(&self, place: Place, chosen: &BTreeMap<Place, f64>) -> bool {
        let words = &self.words[place.0][place.1];
        chosen.keys().any(|(source, claim)| {
            let other = &self.words[*source][*claim];
            let all = words.union(other).count();
            all > 0 && words.intersection(other).count() as f64 / all as f64 > self.choice.same_share
        })
    }

    /// Tells the list of the best step from its first step on, in place of what is worth least.
    fn whole_list(&self, sentences_max: usize, chosen: &mut BTreeMap<Place, f64>) {
        let is_step = |place: &Place| {
            let claim = self.claim(*place);
            claim.kind == ClaimKind::Item && claim.list.is_some_and(|list| list.ordered) && self.about(claim) > 0.0
        };
        let best = chosen
            .iter()
            .filter(|(place, _)| is_step(place))
            .max_by(|(a, left), (b, right)| left.total_cmp(right).then_with(|| b.cmp(a)));
        let Some(((source, at), score)) = best.map(|(place, score)| (*place, *score)) else { return };
        let list = self.claim((source, at)).list.map(|list| list.list);
        let claims = self.sources[source].claims.iter().enumerate();
        let steps: Vec<Place> = claims
            .filter(|(_, claim)| claim.kind == ClaimKind::Item && claim.list.map(|list| list.list) == list)
            .map(|(place, _)| (source, place))
            .collect();
        if steps.len() > sentences_max {
            return;
        }
        for step in &steps {
            chosen.entry(*step).or_insert(score * STEP_SHARE);
        }
        while chosen.len() > sentences_max {
            let others = chosen.iter().filter(|(place, _)| !steps.contains(place));
            let Some((least, _)) = others.min_by(|(a, left), (b, right)| left.total_cmp(right).then_with(|| b.cmp(a)))
            else {
                return;
            };
            let least = *least;
            chosen.remove(&least);
        }
    }

    /// Adds the lines that lead into the lists of chosen items and the commands right below chosen steps, as far as there is room.
    fn leads_and_commands(&self, sentences_max: usize, chosen: &mut BTreeMap<Place, f64>) {
        let told: Vec<(Place, f64)> = chosen.iter().map(|(place, score)| (*place, *score)).collect();
        for ((source, at), score) in told {
            let claims = self.sources[source].claims;
            let lead = claims[at].list.and_then(|list| list.lead);
            let below =
                claims.get(at + 1).filter(|next| next.kind == ClaimKind::Quote && claims[at].kind == ClaimKind::Item);
            let command = below.filter(|next| next.list == claims[at].list).map(|_| at + 1);
            for place in lead.into_iter().chain(command) {
                if chosen.len() < sentences_max {
                    chosen.entry((source, place)).or_insert(score * STEP_SHARE);
                }
            }
        }
    }

    /// Words a claim, and checks what was worded.
    fn say(&self, place: Place, score: f64, chosen: &BTreeMap<Place, f64>) -> Result<Sentence, Dropped> {
        let claim = self.claim(place);
        let before = claim.previous.filter(|_| points_back(claim));
        let before = before.filter(|before| !chosen.contains_key(&(place.0, *before)));
        let before = before.map(|before| self.claim((place.0, before)));
        let (text, evidence, spans) = match before {
            Some(before) => (
                format!("{} {}", before.text, claim.text),
                format!("{} {}", before.source, claim.source),
                before.spans.iter().chain(&claim.spans).cloned().collect(),
            ),
            None => (claim.text.clone(), claim.source.clone(), claim.spans.clone()),
        };
        let is_quote = claim.kind == ClaimKind::Quote;
        let dropped = |failure| Dropped { source: place.0, spans: claim.spans.clone(), failure };
        if before.is_none() && claim.previous.is_none() && points_back(claim) && claim.kind == ClaimKind::Sentence {
            let detail = "it points back at what is not said".to_owned();
            return Err(dropped(Failure { check: Check::Empty, detail }));
        }
        let text = if is_quote { text } else { self.short_where_it_holds(text, &evidence) };
        let verdict = verify(&text, &evidence, self.weigh);
        match verdict.failures.into_iter().next() {
            Some(failure) => Err(dropped(failure)),
            None => Ok(Sentence {
                text,
                source: place.0,
                spans,
                evidence,
                score,
                is_quote,
                is_row: claim.kind == ClaimKind::Row && claim.spans.len() > 1,
            }),
        }
    }

    fn short_where_it_holds(&self, text: String, evidence: &str) -> String {
        let short = shorten(&text);
        if short != text && verify(&short, evidence, self.weigh).is_supported() { short } else { text }
    }
}

/// Whether a claim is read at all: long documents are about many things.
fn is_near(source: &Source<'_>, claim: &Claim) -> bool {
    let reached = |passage: &Range<usize>| passage.start.saturating_sub(REACH_CHARS)..passage.end + REACH_CHARS;
    source.passages.iter().any(|passage| overlaps(&reached(passage), claim))
}

fn overlaps(passage: &Range<usize>, claim: &Claim) -> bool {
    claim.spans.last().is_some_and(|span| span.start < passage.end && passage.start < span.end)
}

fn points_back(claim: &Claim) -> bool {
    let first = claim.text.split(|c: char| !(c.is_alphanumeric() || c == '\'')).find(|word| !word.is_empty());
    claim.kind == ClaimKind::Sentence
        && first.is_some_and(|word| settings::shipped().pointing_back.contains(&word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::{Form, cut};

    const RUNBOOK: &str = "# Provider returns errors\n\n## Alert\n\n`ProviderErrorRateHigh` pages when more than 5 % of calls fail. \
        It clears after 10 minutes (see the other page).\n\n## Impact\n\nCheckout fails for customers.\n\n## Mitigation\n\nDo this:\n\n\
        1. Open the circuit breaker by hand.\n\n   ```sh\n   breaker open payments\n   ```\n\n2. Turn on deferred capture.\n\
        3. Do not raise timeouts.\n\n## Owners\n\nPayments team, on the third floor.\n";

    fn said(question: &str, max: usize) -> Vec<String> {
        let claims = cut(RUNBOOK, Form::Markdown);
        let passage = 0..RUNBOOK.chars().count();
        let source =
            Source { title: "Provider returns errors", claims: &claims, passages: std::slice::from_ref(&passage) };
        let composed = compose(question, &[source], &|_| 1.0, max);
        assert!(composed.dropped.is_empty(), "{composed:?}");
        composed.sentences.into_iter().map(|sentence| sentence.text).collect()
    }

    #[test]
    fn steps_are_told_in_order_with_their_lead_and_commands() {
        assert_eq!(
            said("how to mitigate: deferred capture", 5),
            [
                "Do this:",
                "Open the circuit breaker by hand.",
                "breaker open payments",
                "Turn on deferred capture.",
                "Do not raise timeouts."
            ]
        );
    }

    #[test]
    fn what_is_asked_comes_and_the_rest_stays_away() {
        let said = said("what does ProviderErrorRateHigh mean", 2);
        assert_eq!(said[0], "`ProviderErrorRateHigh` pages when more than 5 % of calls fail.");
        assert!(!said.iter().any(|sentence| sentence.contains("floor")), "{said:?}");
    }

    #[test]
    fn a_section_about_something_else_comes_later() {
        let text = "# Provider\n\n## Impact\n\nWith deferred capture off, errors of the provider reach checkout.\n\n\
                    ## Mitigation\n\nTurn on deferred capture.\n";
        let claims = cut(text, Form::Markdown);
        let passage = 0..text.chars().count();
        let source = Source { title: "", claims: &claims, passages: std::slice::from_ref(&passage) };
        let first = |question: &str| compose(question, &[source], &|_| 1.0, 1).sentences[0].text.clone();
        let what = "errors of the provider at checkout: deferred capture";
        assert_eq!(first(&format!("how to mitigate {what}")), "Turn on deferred capture.");
        assert!(first(&format!("impact of {what}")).starts_with("With deferred capture off"));
    }

    #[test]
    fn what_points_back_brings_what_it_points_at() {
        let claims = cut("Calls fail. It clears after 10 minutes (see there).", Form::Markdown);
        let passage = 0..100;
        let source = Source { title: "", claims: &claims, passages: std::slice::from_ref(&passage) };
        let composed = compose("when does it clear after minutes", &[source], &|_| 1.0, 1);
        assert_eq!(composed.sentences[0].text, "Calls fail. It clears after 10 minutes.");
        assert_eq!(composed.sentences[0].spans, [0..11, 12..51]);
        let claims = cut("It clears after 10 minutes.", Form::Markdown);
        let source = Source { title: "", claims: &claims, passages: std::slice::from_ref(&passage) };
        let composed = compose("when does it clear", &[source], &|_| 1.0, 1);
        assert!(composed.sentences.is_empty());
        assert_eq!(composed.dropped.len(), 1);
    }

    #[test]
    fn nothing_to_say_is_nothing_said() {
        assert_eq!(compose("anything", &[], &|_| 1.0, 5), Composed::default());
    }
}
