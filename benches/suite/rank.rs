//! What is decided once a prompt is read, `Router::choose`: the terms of 500 deployments, the class, their order, the
//! fallbacks, and what would have chosen otherwise. Ninety-nine of a hundred may take no longer than 100 microseconds.
//!
//! Beside the time that passes, of which a busy machine gives others a part, the time is taken that this thread computed.

use divan::{Bencher, bench};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use waypost::chat::ChatRequest;
use waypost::choice::Request;
use waypost::features::Features;
use waypost::limits::Pass;
use waypost::policy::Policy;
use waypost::policy::rank::Demand;
use waypost::record::{Prompt, Seen};
use waypost::router::{Reading, Router, Target, Wish};

const DEPLOYMENTS: usize = 500;
const SAMPLES: u32 = 10_000;

/// What is ranked: by which strategy, how many serve the class, and how many are at their limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    strategy: &'static str,
    in_class: usize,
    held: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}, {} in class, {} held", self.strategy, self.in_class, self.held)
    }
}

const fn case(strategy: &'static str, in_class: usize, held: usize) -> Case {
    Case { strategy, in_class, held }
}

const CASES: [Case; 12] = [
    case("balanced", DEPLOYMENTS, 0),
    case("balanced", DEPLOYMENTS, 50),
    case("balanced", DEPLOYMENTS, DEPLOYMENTS),
    case("balanced", 50, 0),
    case("balanced", 50, 50),
    case("cheapest", DEPLOYMENTS, 0),
    case("fastest", DEPLOYMENTS, 0),
    case("least_busy", DEPLOYMENTS, 0),
    case("priority", DEPLOYMENTS, 0),
    case("round_robin", DEPLOYMENTS, 0),
    case("weighted", DEPLOYMENTS, 0),
    case("weighted", 50, 0),
];

/// How long each choice took, and how long it computed.
static SPENT: Mutex<BTreeMap<Case, [Vec<Duration>; 2]>> = Mutex::new(BTreeMap::new());

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime can be started"));

#[bench(args = CASES, sample_count = SAMPLES, sample_size = 1)]
fn choose_500(bencher: Bencher, case: Case) {
    let (router, _held) = router(case);
    let request = ChatRequest::from_prompt("Name three uses of a brick.").expect("a prompt is a request");
    let features = Features::read(&request);
    let policy = Policy { strategy: strategies(case), ..router.config.policy.clone() };
    let model = router.model.load_full();
    let read = RUNTIME.block_on(router.reader.read(&model, "Name three uses of a brick."));
    let Ok(Ok(read)) = read else { panic!("the prompt can be read, and nobody else reads") };
    let read = read.read;
    let (wish, reading) = (Wish::of(Target::Auto, policy), Reading::Estimate(model, read));
    let mut spent = [(); 2].map(|()| Vec::with_capacity(SAMPLES as usize));
    bencher.bench_local(|| {
        let (start, computed) = (Instant::now(), computed());
        let asked = Request {
            demand: Demand {
                features: &features,
                policy: &wish.policy,
                output_tokens: 200.0,
                at: jiff::Timestamp::now(),
                session: None,
            },
            prompt: Prompt { tokens_in: features.tokens_in, ascii: features.ascii },
            now: router.health.now(),
            session: None,
            counted: false,
            dry: false,
        };
        let Ok(choice) = router.choose(&wish, &reading, &asked) else { panic!("many can answer") };
        spent[1].push(self::computed() - computed);
        spent[0].push(start.elapsed());
        choice
    });
    SPENT.lock().expect("no bench panicked").insert(case, spent);
}

/// The time this thread has computed.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}

/// Half and ninety-nine of a hundred choices took no longer than…
pub fn print_shares() {
    for (case, spent) in SPENT.lock().expect("no bench panicked").iter_mut() {
        spent.iter_mut().for_each(|spent| spent.sort());
        let micros =
            |of: usize, share: f64| spent[of][(spent[of].len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
        println!(
            "{case}: median {:.1} us, p99 {:.1} us; computing: median {:.1} us, p99 {:.1} us",
            micros(0, 0.5),
            micros(0, 0.99),
            micros(1, 0.5),
            micros(1, 0.99)
        );
    }
}

fn strategies(case: Case) -> Vec<waypost::policy::strategy::Strategy> {
    vec![waypost::policy::strategy::Strategy::parse(case.strategy).expect("a strategy's name")]
}

/// A router whose deployments have all answered, and the requests that hold some of them at their limit.
fn router(case: Case) -> (Arc<Router>, Vec<Pass>) {
    let cache = crate::cache();
    let router = RUNTIME.block_on(waypost::start::router(crate::config(&fleet(case)), cache, false));
    let router = crate::or_exit(router);
    let book = &router.health;
    for index in (0..DEPLOYMENTS).cycle().take(DEPLOYMENTS * 20) {
        book.first_token(index, book.now(), 10, 100.0 + (index * 7_919 % 500) as f64);
        let seen = Seen { total_ms: 900.0, tokens: Some(100), counted_in: Some(12), ..Seen::default() };
        book.answered(index, book.now(), &seen);
    }
    // What nothing holds yet.
    let held = (0..case.held).filter_map(|index| router.limits.admit(index, 100).ok()).collect();
    (router, held)
}

/// Deployments of fifty providers, at prices of which few are equal. The others serve a class that nothing here wants.
fn fleet(case: Case) -> String {
    let off = |name| format!("[[provider]]\nname = \"{name}\"\nenabled = false\n");
    let mut text = off("local")
        + &off("ollama")
        + "[embedder]\ndeadline_ms = 60_000\n[[class]]\nname = \"other\"\noutput_tokens = 100\n";
    for provider in 0..50 {
        text +=
            &format!("[[provider]]\nname = \"p{provider}\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n");
    }
    for at in 0..DEPLOYMENTS {
        let classes = if at < case.in_class { "*" } else { "other" };
        let limit = if at < case.held { "max_in_flight = 1\n" } else { "" };
        text += &format!(
            "[[deployment]]\nname = \"p{}/m{at}\"\nprovider = \"p{}\"\nmodel = \"m{at}\"\nclasses = [\"{classes}\"]\ninput = {}\noutput = {}\ncontext_tokens = 100_000\nmax_output_tokens = 8_000\n{limit}",
            at % 50,
            at % 50,
            1.0 + (at * 37 % 500) as f64 / 100.0,
            2.0 + (at * 91 % 500) as f64 / 100.0,
        );
    }
    text
}
