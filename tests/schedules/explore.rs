//! Runs a model under many schedules.

use std::env;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, MaxSteps, Runner};
use sockeye::model;

use crate::bounded::Bounded;

/// The default number of schedules per model.
const SCHEDULES: usize = 4000;
/// The depth of the bugs that PCT looks for: one more than its changes of priority per run.
const DEPTH: usize = 4;
/// More steps than the longest run takes. A thread that spins exceeds them.
const MAX_STEPS: usize = 20_000;

/// Runs a model under three kinds of schedule, a third of the number each. The first are random, and the second follow
/// priorities that change a few times (PCT). The last are all schedules in order, those with the fewest preemptions
/// first.
pub fn explore(name: &str, body: fn()) {
    #[cfg(sockeye_planted)]
    if let Ok(bug) = env::var("PLANTED") {
        sockeye::failpoint::plant(&bug);
    }
    let model = move || model::run(body);
    if let Ok(schedule) = env::var("SCHEDULE") {
        return shuttle::replay(model, &schedule);
    }
    let many = env::var("SCHEDULES").map_or(SCHEDULES, |many| many.parse().expect("a number"));
    let begun = Instant::now();
    let random = Runner::new(TimeAdvancesLast(RandomScheduler::new(many / 3)), config()).run(model);
    let pct =
        Runner::new(TimeAdvancesLast(PctScheduler::new(DEPTH, many / 3)), config()).run(model);
    let (mut ordered, mut complete) = (0, None);
    for preemptions in 0.. {
        let (bounded, exhausted) = Bounded::new(preemptions, many / 3 - ordered);
        ordered += Runner::new(TimeAdvancesLast(bounded), config()).run(model);
        if !exhausted.get() {
            break;
        }
        complete = Some(preemptions);
    }
    let schedules = random + pct + ordered;
    let rate = schedules as f64 / begun.elapsed().as_secs_f64();
    let complete = match complete {
        Some(preemptions) => format!("all with up to {preemptions} preemptions"),
        None => "not all without preemption".to_owned(),
    };
    println!("{name}: {schedules} schedules, {rate:.0} per second, {complete}");
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    // shuttle warns that it treats every atomic operation as sequentially consistent, and that it drops statics after
    // each run.
    config.silence_warnings = true;
    config
}

/// Lets time pass only when no other task can run.
struct TimeAdvancesLast<S>(S);

impl<S: Scheduler> Scheduler for TimeAdvancesLast<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let time = TaskId::from(model::TIME);
        if runnable.len() == 1 || runnable.iter().all(|task| task.id() != time) {
            return self.0.next_task(runnable, current, is_yielding);
        }
        let awake: Vec<_> = runnable.iter().copied().filter(|task| task.id() != time).collect();
        self.0.next_task(&awake, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
