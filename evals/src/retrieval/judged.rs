//! One answer judged: its order against the labels, its citations against the stored texts and the corpus.

use anyhow::Context as _;
use attain_proto::rag::v1::{Citation, SearchKnowledgeResponse};

use crate::knowledge::{Corpus, Measures, Query, Tenant, is_stored};

/// What the service puts in place of secrets.
const REDACTED: &str = "[redacted";

/// What one question got.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) query: Query,
    pub(super) answer: SearchKnowledgeResponse,
    pub(super) judged: Citations,
}

/// How many citations hold what they promise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Citations {
    pub(super) count: usize,
    /// The quote is what stands between the offsets of the version named, and its hash agrees.
    pub(super) valid: usize,
    /// Valid, and the quote's words stand in this order in the file of the corpus that the document was made of.
    pub(super) precise: usize,
    /// Places that are not precise: document, first and last character.
    pub(super) imprecise: Vec<String>,
}

/// Holds every citation of an answer against the stored text.
pub(super) async fn judge(
    tenant: &mut Tenant,
    corpus: &Corpus,
    answer: &SearchKnowledgeResponse,
) -> anyhow::Result<Citations> {
    let mut judged = Citations { count: answer.citations.len(), ..Citations::default() };
    for citation in &answer.citations {
        let document = tenant.kept(&citation.document_id, citation.document_version).await?;
        let document = document.with_context(|| format!("{} is cited and not kept", citation.document_id))?;
        let valid = is_valid(citation, &document.text);
        let file = corpus.files.get(&citation.document_id);
        let precise = valid && file.is_some_and(|file| stands_in(&citation.quote, &file.text));
        judged.valid += usize::from(valid);
        judged.precise += usize::from(precise);
        if !precise {
            let Citation { document_id, start_offset, end_offset, .. } = citation;
            judged.imprecise.push(format!("{document_id} {start_offset}..{end_offset}"));
        }
    }
    Ok(judged)
}

fn is_valid(citation: &Citation, stored: &str) -> bool {
    let place = (citation.start_offset, citation.end_offset);
    is_stored(&citation.quote, &citation.quote_sha256, place, stored)
}

/// Whether the words of a quote stand in a text in this order. What the service took out of the text lies between them; where
/// it put marks in place of secrets, the words of the marks are passed over.
fn stands_in(quote: &str, text: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let pieces = quote.split(REDACTED).enumerate().map(|(place, piece)| match place {
        0 => piece,
        _ => piece.split_once(']').map_or("", |(_, rest)| rest),
    });
    let wanted: Vec<String> = pieces.flat_map(words).collect();
    let text = words(text);
    let mut rest = text.iter();
    wanted.iter().all(|word| rest.any(|found| found == word))
}

impl Answered {
    /// Documents by their paths in the order of their best passage.
    pub(super) fn ranking<'a>(&'a self, corpus: &'a Corpus) -> Vec<&'a str> {
        let mut ranked: Vec<&str> = Vec::new();
        for citation in &self.answer.citations {
            let path = corpus.path_of(&citation.document_id);
            if !ranked.contains(&path) {
                ranked.push(path);
            }
        }
        ranked
    }

    /// How its ranking fares against the labels.
    pub(super) fn measures(&self, corpus: &Corpus) -> Measures {
        self.query.measures(&self.ranking(corpus))
    }

    /// Share of the documents that answer by themselves among the first ten cited.
    pub(super) fn cited_share(&self, corpus: &Corpus) -> Option<f64> {
        self.query.answering_share(&self.ranking(corpus))
    }

    /// Whether the labels say that something answers.
    pub(super) fn is_answerable(&self) -> bool {
        !self.query.relevant.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::knowledge::{Judgement, sha256_hex};

    pub(in crate::retrieval) fn answered(documents: &[&str], relevant: &[(&str, u32)], confidence: f64) -> Answered {
        let citation = |id: &&str| Citation { document_id: (*id).to_owned(), ..Citation::default() };
        let judgement = |(doc, grade): &(&str, u32)| Judgement { doc: (*doc).to_owned(), grade: *grade };
        let citations: Vec<Citation> = documents.iter().map(citation).collect();
        Answered {
            query: Query {
                id: "q".into(),
                query: "?".into(),
                kind: "alert".into(),
                relevant: relevant.iter().map(judgement).collect(),
            },
            judged: Citations {
                count: citations.len(),
                valid: citations.len(),
                precise: citations.len(),
                imprecise: Vec::new(),
            },
            answer: SearchKnowledgeResponse {
                citations,
                confidence,
                threshold: 0.5,
                abstained: confidence < 0.5,
                ..Default::default()
            },
        }
    }

    #[test]
    fn passages_of_one_document_count_once() {
        let [ndcg, recall, reciprocal] = answered(&["a", "a", "b"], &[("b", 2)], 1.0).measures(&Corpus::default());
        assert_eq!((recall, reciprocal), (Some(1.0), Some(0.5)));
        assert!((ndcg.expect("relevant") - 1.0 / 3f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_found_scores_nothing() {
        let missed = answered(&["x"], &[("b", 2)], 1.0);
        assert_eq!(missed.measures(&Corpus::default()), [Some(0.0), Some(0.0), Some(0.0)]);
        assert_eq!(answered(&["x"], &[], 1.0).measures(&Corpus::default()), [None, None, None]);
    }

    #[test]
    fn a_quote_is_held_against_the_text_and_the_file() {
        let citation = |quote: &str, start_offset, end_offset| Citation {
            quote: quote.into(),
            quote_sha256: sha256_hex(quote),
            start_offset,
            end_offset,
            ..Citation::default()
        };
        assert!(is_valid(&citation("öffne", 3, 8), "Ja öffne es"));
        assert!(!is_valid(&citation("öffne", 4, 9), "Ja öffne es"));
        assert!(!is_valid(&citation("", 3, 3), "Ja öffne es"));
        assert!(!is_valid(&Citation { quote_sha256: sha256_hex("x"), ..citation("öffne", 3, 8) }, "Ja öffne es"));
        assert!(stands_in("mail [redacted:email] now", "Please mail a@b.example <!-- at once --> now."));
        assert!(!stands_in("now mail", "mail now") && !stands_in("other words", "mail now"));
    }
}
