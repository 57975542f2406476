//! Judges a cited sentence without the service's own verifier: its words, numbers and names have to stand in the cited text, in order.

/// Whether every run of letters and digits of a sentence stands in the cited text in the same order, whatever its case. Sentences that
/// were shortened leave words out and put none in.
pub(crate) fn is_said_in_order(sentence: &str, cited: &str) -> bool {
    let mut rest = runs(cited).into_iter();
    runs(sentence).into_iter().all(|run| rest.any(|there| there == run))
}

/// The same for a row of a table, whose cells stand behind headers that are cited before them: every run stands in the header or the row.
pub(crate) fn is_said_at_all(sentence: &str, cited: &str) -> bool {
    let there = runs(cited);
    runs(sentence).iter().all(|run| there.contains(run))
}

fn runs(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_word_count() {
        let cited = "However, **calls** rise from 14/s to\n81/s (see there).";
        assert!(is_said_in_order("Calls rise from 14/s to 81/s.", cited));
        assert!(!is_said_in_order("Calls rise from 81/s to 14/s.", cited));
        assert!(!is_said_in_order("Calls never rise.", cited));
        assert!(is_said_at_all("to: 81; from: 14", cited) && !is_said_at_all("to: 82", cited));
    }
}
