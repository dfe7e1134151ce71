//! The rule by which probes change a server's health: after a number of failures, or successes, in a row.
//!
//! One probe with the opposite result starts the count again. It is pure, and knows neither why a probe failed nor
//! when.

/// Counts probes of one server.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    healthy: bool,
    /// Probes in a row against the present state.
    against: u32,
    fall: u32,
    rise: u32,
}

impl Hysteresis {
    /// Starts from a known state; `fall` failures in a row end health, `rise` successes bring it back.
    pub fn new(healthy: bool, fall: u32, rise: u32) -> Hysteresis {
        Hysteresis { healthy, against: 0, fall: fall.max(1), rise: rise.max(1) }
    }

    /// Sets new thresholds; the counts stay, and the next probe is judged by the new ones.
    pub fn configure(&mut self, fall: u32, rise: u32) {
        (self.fall, self.rise) = (fall.max(1), rise.max(1));
    }

    /// Takes in one probe; returns the new state if it changed.
    pub fn observe(&mut self, good: bool) -> Option<bool> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if good { self.rise } else { self.fall };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
    }

    /// The present state.
    pub fn healthy(&self) -> bool {
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(hysteresis: &mut Hysteresis, probes: &str) -> Vec<(usize, bool)> {
        let outcomes = probes.chars().map(|probe| probe == '+').enumerate();
        outcomes.filter_map(|(i, good)| hysteresis.observe(good).map(|now| (i, now))).collect()
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        let mut hysteresis = Hysteresis::new(true, 3, 2);
        assert_eq!(changes(&mut hysteresis, "--+--+---+-++"), [(8, false), (12, true)]);
        assert_eq!(changes(&mut hysteresis, "++++"), [], "more of the same changes nothing");
    }

    #[test]
    fn one_is_enough_where_one_is_asked() {
        let mut hysteresis = Hysteresis::new(false, 1, 1);
        assert_eq!(changes(&mut hysteresis, "+-+"), [(0, true), (1, false), (2, true)]);
        let mut hysteresis = Hysteresis::new(true, 0, 0);
        assert_eq!(changes(&mut hysteresis, "-"), [(0, false)], "0 counts as 1");
    }

    #[test]
    fn new_thresholds_keep_what_was_counted() {
        let mut hysteresis = Hysteresis::new(true, 5, 5);
        assert_eq!(changes(&mut hysteresis, "--"), []);
        hysteresis.configure(2, 5);
        assert!(hysteresis.healthy());
        assert_eq!(changes(&mut hysteresis, "-"), [(0, false)]);
    }
}
