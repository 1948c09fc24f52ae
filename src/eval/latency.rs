//! Times of calls by a clock that is passed in.

use crate::base::clock::Clock;
use crate::eval::energy::Meter;
use crate::eval::error::EvalError;
use crate::eval::{results::Figure, results::Latency, results::Percentiles};
use crate::lm::Decoder;
use crate::lm::Engine;
use crate::lm::Prepared;
use crate::lm::embed;
use crate::lm::milliseconds;

/// Number of calls per function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Calls before the first that is timed.
    pub warm_up: u64,
    /// Calls that are timed.
    pub n: u64,
}

/// Times a full chunk of `init`, a step of `decode` in the middle of the cache, and `encode` of a full input.
pub(super) fn measure(
    engine: &Engine,
    runtime: &str,
    repeat: Repeat,
    clock: &dyn Clock,
) -> Result<Latency, EvalError> {
    let (mut init, mut decode, mut encode, mut decode_energy) = (None, None, None, None);
    if let Some(layout) = engine.layout().decoder {
        let mut decoder = Decoder::new(engine)?;
        let prompt = vec![0; layout.chunk];
        init = Some(time(repeat, clock, &mut || Ok(decoder.prefill(&prompt).map(drop)?))?);
        // The timed steps stand around the middle, and in no case make anything leave the cache.
        let steps = usize::try_from(repeat.n + repeat.warm_up).unwrap_or(usize::MAX);
        let before = (layout.capacity / 2).saturating_sub(steps / 2).max(1);
        let room = (layout.capacity - before).max(1);
        let mut left = 0;
        let mut meter = Meter::start();
        decode = Some(time_after(repeat, clock, &mut |timed| {
            if left == 0 {
                decoder.prefill(&vec![0; before])?;
                left = room;
            }
            left -= 1;
            timed(&mut || Ok(decoder.feed(0).map(drop)?))
        })?);
        // The steps before the first that is timed took as much each, and so did the prefills between little.
        let n = repeat.n + repeat.warm_up;
        decode_energy = meter.as_mut().and_then(Meter::joules).map(|joules| Figure {
            value: joules / n as f64,
            unit: "J".to_owned(),
            n,
            standard_error: None,
        });
    }
    if let Some(layout) = engine.layout().encoder {
        let (ids, pool) = (vec![0; layout.seq_len], vec![1; layout.seq_len]);
        let sentence = Prepared { ids, pool, left_out: 0 };
        encode = Some(time(repeat, clock, &mut || Ok(embed(engine, &sentence).map(drop)?))?);
    }
    let load = Figure {
        value: milliseconds(engine.load_time()),
        unit: "ms".to_owned(),
        n: 1,
        standard_error: None,
    };
    Ok(Latency { runtime: runtime.to_owned(), load, init, decode, encode, decode_energy })
}

type Call<'f> = dyn FnMut() -> Result<(), EvalError> + 'f;

/// Called once for each observation with what times the call that it makes.
type Observation<'f> =
    dyn FnMut(&mut dyn FnMut(&mut Call<'_>) -> Result<(), EvalError>) -> Result<(), EvalError> + 'f;

fn time(repeat: Repeat, clock: &dyn Clock, call: &mut Call<'_>) -> Result<Percentiles, EvalError> {
    time_after(repeat, clock, &mut |timed| timed(call))
}

fn time_after(
    repeat: Repeat,
    clock: &dyn Clock,
    observe: &mut Observation<'_>,
) -> Result<Percentiles, EvalError> {
    let mut times = Vec::new();
    for i in 0..repeat.warm_up + repeat.n {
        observe(&mut |call| {
            let start = clock.elapsed();
            call()?;
            let took = milliseconds(clock.elapsed().saturating_sub(start));
            if i >= repeat.warm_up {
                times.push(took);
            }
            Ok(())
        })?;
    }
    Percentiles::of(times, repeat.warm_up).ok_or(EvalError::Nothing { what: "timed calls" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{testing::Fake, testing::Ticking};

    #[test]
    fn every_function_is_timed_without_evictions() {
        for fake in [Fake::state(16, 4), Fake::io(16)] {
            let repeat = Repeat { warm_up: 3, n: 40 };
            let got = measure(&fake.engine(), "fake", repeat, &Ticking::default()).unwrap();
            for times in [got.init, got.decode, got.encode] {
                let times = times.unwrap();
                assert_eq!((times.n, times.warm_up), (40, 3));
                assert_eq!(
                    (times.p50, times.p90, times.p99, times.mean),
                    (Some(1.0), Some(1.0), None, 1.0)
                );
            }
        }
    }
}
