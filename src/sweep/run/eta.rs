//! How long the rest takes: a step is taken to need what steps of its kind needed, those that earlier runs recorded included.

use std::time::Duration;

use crate::base::progress::{Left, Whole};
use crate::sweep::Variant;

/// Kinds of steps, which take times of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Making the baseline.
    Convert,
    /// Making another variant, several in one go.
    Compress,
    /// Measuring the baseline, for which the reference is computed.
    MeasureFirst,
    /// Measuring another variant, which finds what the reference said.
    Measure,
    /// A variant on another machine.
    Elsewhere,
}

/// Steps done and to come, by kind.
#[derive(Debug, Default)]
pub(super) struct EtaEstimator {
    kinds: [Kind; 5],
}

#[derive(Debug, Default, Clone, Copy)]
struct Kind {
    total: u64,
    done: u64,
    /// Begun and not done.
    running: u64,
    /// Steps whose time is known, and that time.
    timed: u64,
    seconds: f64,
    /// Steps that go on at the same time.
    together: u64,
}

impl Step {
    /// Making `variant`.
    pub(super) fn build(variant: &Variant) -> Self {
        if variant.is_baseline() { Self::Convert } else { Self::Compress }
    }

    /// Measuring `variant`.
    pub(super) fn measure(variant: &Variant) -> Self {
        if variant.is_baseline() { Self::MeasureFirst } else { Self::Measure }
    }
}

impl EtaEstimator {
    /// So many steps more are to come.
    pub(super) fn expect(&mut self, step: Step, more: u64) {
        self.kinds[step as usize].total += more;
    }

    /// So many steps that are to come have begun.
    pub(super) fn begin(&mut self, step: Step, n: u64) {
        self.kinds[step as usize].running += n;
    }

    /// So many steps of a kind go on at the same time from now on.
    pub(super) fn together(&mut self, step: Step, n: u64) {
        self.kinds[step as usize].together = n;
    }

    /// A step is done, or need not be; `seconds` is what it took, now or in an earlier run, where that says something.
    pub(super) fn done(&mut self, step: Step, seconds: Option<f64>) {
        let kind = &mut self.kinds[step as usize];
        kind.done += 1;
        kind.total = kind.total.max(kind.done);
        kind.running = kind.running.saturating_sub(1);
        if let Some(seconds) = seconds {
            kind.timed += 1;
            kind.seconds += seconds;
        }
    }

    /// Overall progress.
    pub(super) fn whole(&self) -> Whole {
        let sum = |of: fn(&Kind) -> u64| self.kinds.iter().map(of).sum();
        Whole { done: sum(|kind| kind.done), total: sum(|kind| kind.total), left: self.left() }
    }

    /// Nothing, while something is to come of a kind of which nothing is known.
    fn left(&self) -> Option<Left> {
        let elsewhere = self.kinds[Step::Elsewhere as usize].total > 0;
        let (mut all, mut running) = (0.0, 0.0);
        for step in
            [Step::Convert, Step::Compress, Step::MeasureFirst, Step::Measure, Step::Elsewhere]
        {
            let kind = &self.kinds[step as usize];
            let to_come = kind.total - kind.done;
            // What other machines make is found, and no work here.
            if to_come == 0 || (elsewhere && step != Step::Elsewhere) {
                continue;
            }
            let each = self.each(step)? / kind.together.max(1) as f64;
            all += to_come as f64 * each;
            running += kind.running.min(to_come) as f64 * each;
        }
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Some(Left { all: time(all), running: time(running) })
    }

    /// Seconds that a step of a kind takes; the first measurement is no rule for the others, but better than nothing.
    fn each(&self, step: Step) -> Option<f64> {
        let mean = |step: Step| {
            let kind = &self.kinds[step as usize];
            (kind.timed > 0).then(|| kind.seconds / kind.timed as f64)
        };
        mean(step).or_else(|| match step {
            Step::MeasureFirst => mean(Step::Measure),
            Step::Measure => mean(Step::MeasureFirst),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Compress, Convert, Elsewhere, Measure, MeasureFirst};

    /// Seconds left after so many on the clock.
    fn left(pace: &EtaEstimator, after: f64) -> Option<f64> {
        let left = pace.whole().left?;
        Some(left.after(Duration::from_secs_f64(after)).as_secs_f64())
    }

    #[test]
    fn steps_take_what_steps_of_their_kind_took() {
        let mut pace = EtaEstimator::default();
        for (step, n) in [(Convert, 1), (Compress, 3), (MeasureFirst, 1), (Measure, 3)] {
            pace.expect(step, n);
        }
        assert_eq!(left(&pace, 0.0), None);
        pace.done(Convert, Some(40.0));
        pace.begin(Compress, 3);
        assert_eq!(left(&pace, 0.0), None, "nothing is known of compression");
        for _ in 0..3 {
            pace.done(Compress, Some(20.0));
        }
        assert_eq!(left(&pace, 0.0), None);
        pace.begin(MeasureFirst, 1);
        pace.done(MeasureFirst, Some(100.0));
        // The first is all that is known, until another one is done.
        assert_eq!(left(&pace, 0.0), Some(300.0));
        pace.begin(Measure, 1);
        assert_eq!(left(&pace, 60.0), Some(240.0));
        pace.done(Measure, Some(10.0));
        assert_eq!(left(&pace, 0.0), Some(20.0));
        assert_eq!(left(&pace, 5.0), Some(20.0), "nothing has begun");
        pace.begin(Measure, 1);
        assert_eq!(left(&pace, 5.0), Some(15.0));
        // What takes longer than the others did leaves the rest to come.
        assert_eq!(left(&pace, 500.0), Some(10.0));
        pace.done(Measure, None);
        pace.done(Measure, Some(30.0));
        let Whole { done, total, .. } = pace.whole();
        assert_eq!((done, total, left(&pace, 0.0)), (8, 8, Some(0.0)));
        // One more than was planned.
        for step in [Compress, Measure] {
            pace.expect(step, 1);
        }
        assert_eq!(left(&pace, 0.0), Some(40.0));
    }

    #[test]
    fn what_is_on_record_counts_at_once_and_workers_share() {
        let mut pace = EtaEstimator::default();
        for (step, n) in [(Convert, 1), (Compress, 4), (MeasureFirst, 1), (Measure, 4)] {
            pace.expect(step, n);
        }
        for (step, seconds) in
            [(Convert, 9.0), (Compress, 2.0), (MeasureFirst, 50.0), (Measure, 6.0)]
        {
            pace.done(step, Some(seconds));
        }
        assert_eq!(left(&pace, 0.0), Some(3.0 * 2.0 + 3.0 * 6.0));
        pace.together(Measure, 2);
        assert_eq!(left(&pace, 0.0), Some(3.0 * 2.0 + 3.0 * 6.0 / 2.0));
        // Two of them are at work, for as long as one.
        pace.begin(Measure, 2);
        assert_eq!(left(&pace, 1e6), Some(6.0 + 3.0));
    }

    #[test]
    fn what_other_machines_make_is_not_made_here() {
        let mut pace = EtaEstimator::default();
        for (step, n) in
            [(Convert, 1), (Compress, 2), (MeasureFirst, 1), (Measure, 2), (Elsewhere, 3)]
        {
            pace.expect(step, n);
        }
        assert_eq!(left(&pace, 0.0), None);
        pace.done(Elsewhere, Some(7.0));
        assert_eq!(left(&pace, 0.0), Some(14.0));
    }
}
