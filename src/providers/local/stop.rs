//! Stop sequences in a text that comes in pieces: nothing of a stop sequence ever goes out.

/// Watches for the first of several stop sequences.
pub struct StopScanner {
    stops: Vec<String>,
    held: String,
}

impl StopScanner {
    /// Watches for any of `stops`, none of them empty.
    pub fn new(stops: Vec<String>) -> Self {
        StopScanner { stops, held: String::new() }
    }

    /// Takes the next piece. Gives what can go out, and whether a stop sequence was found.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, once no more text comes.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Length of the longest end of `text` with which `stop` begins.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0).rev();
    starts.into_iter().find(|length| text.ends_with(&stop[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &[char], sizes: &[usize], stops: &[&str]) -> String {
        let mut scanner = StopScanner::new(stops.iter().map(|stop| stop.to_string()).collect());
        let (mut out, mut rest) = (String::new(), text);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            let (text, stopped) = scanner.push(&piece.iter().collect::<String>());
            out.push_str(&text);
            if stopped {
                return out;
            }
        }
        out + &scanner.finish()
    }

    proptest! {
        /// However a text is cut into pieces, exactly what stands before the first stop sequence goes out.
        #[test]
        fn cutting_does_not_matter(text in "[ab é]{0,40}", sizes in prop::collection::vec(1usize..5, 1..8)) {
            let stops = ["aba", "bé", "b b"];
            let chars: Vec<char> = text.chars().collect();
            let expected = stops.iter().filter_map(|stop| text.find(stop)).min().map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(run(&chars, &sizes, &stops), expected);
        }
    }
}
