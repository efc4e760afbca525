use super::*;
use crate::config::layered;
use crate::decision::Usage;
use crate::money::Money;
use futures::future::BoxFuture;
use std::time::Duration;

fn config(folder: &Path, text: &str) -> Config {
    let text = format!("[experiment_log]\nfolder = {:?}\n{text}", folder.display().to_string());
    Config::resolve("f", layered("f", &text).expect("reads")).expect("resolves")
}

fn start(config: &Config) -> Experiments {
    Experiments::start(config, |_| true, |_| Err(crate::error::Error::Model("none here".into())))
}

fn subject<'a>(session: &'a str, request: &'a str) -> Subject<'a> {
    Subject { class: "code", session: Some(session), request, ..Subject::default() }
}

const CANARY: &str = r#"
[[experiment]]
name = "try"
kind = "canary"
class = ["code"]
arms = [{ name = "new", share = 0.5, deployment = "local/smollm2-135m" }]
max_error_rate = 0.05
"#;

fn lines(folder: &Path, name: &str) -> Vec<Line> {
    let mut all = vec![];
    log::read(folder, name, |line| all.push(line)).expect("read");
    all
}

#[test]
fn a_canary_that_fails_is_stopped_for_everyone_and_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), CANARY);
    let failed = Answered { failed: Some(true), status: 502, ..Answered::default() };
    let good = Answered { failed: Some(false), status: 200, ms: 100.0, ..Answered::default() };
    let mut sent = 0;
    let first = start(&config);
    for at in 0..200 {
        // Between two starts the watch goes on from the log.
        let session = format!("session-{at}");
        let assigned = first.assign(&subject(&session, "dec"));
        let Some(one) = assigned.first() else { break };
        let canary = one.arm == "new";
        assert_eq!(first.change(&assigned).deployment.is_some(), canary);
        sent += usize::from(canary);
        first.answered(&assigned, "dec", if canary { &failed } else { &good });
    }
    assert!((2..10).contains(&sent), "stopped after {sent}");
    assert!(first.assign(&subject("session-0", "dec")).is_empty());
    first.flush();
    let stop = first.stopped().next().expect("stopped").clone();
    assert_eq!(lines(folder.path(), "try").last(), Some(&Line::Stopped(stop.clone())));
    let again = start(&config);
    assert_eq!(again.stopped().collect::<Vec<_>>(), [&stop]);
    assert!(again.assign(&subject("session-0", "dec")).is_empty());
}

#[test]
fn what_a_canary_saw_before_a_restart_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), CANARY);
    let failed = Answered { failed: Some(true), status: 502, ..Answered::default() };
    let mut starts = 0;
    while starts < 20 {
        let experiments = start(&config);
        if experiments.stopped().next().is_some() {
            break;
        }
        // One failure of the canary a start, and then the end.
        let mut all = (0..100).map(|at| experiments.assign(&subject(&format!("s{at}"), "dec")));
        let assigned = all.find(|assigned| assigned[0].arm == "new").expect("half are");
        experiments.answered(&assigned, "dec", &failed);
        experiments.flush();
        starts += 1;
    }
    assert!((2..10).contains(&starts), "{starts}");
}

#[test]
fn who_is_in_no_experiment_is_in_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiments = start(&config(folder.path(), CANARY));
    assert!(experiments.assign(&Subject { class: "tools", ..subject("s", "dec") }).is_empty());
    assert!(experiments.assign(&Subject { session: None, ..subject("s", "dec") }).is_empty());
    assert_eq!(experiments.change(&[]), Change::default());
    let lacking = Experiments::start(&config(folder.path(), CANARY), |_| false, |_| unreachable!("no model is named"));
    assert!(lacking.assign(&subject("s", "dec")).is_empty());
    drop(experiments);
    assert!(!folder.path().join("try.jsonl").exists(), "nothing is written before there is something to write");
}

/// Answers after a moment, at a tenth of a cent.
struct Slow;

impl Caller for Slow {
    fn index(&self, _: &str) -> Option<usize> {
        Some(3)
    }
    fn call(&self, _: usize, _: Arc<ChatRequest>) -> BoxFuture<'static, std::result::Result<ShadowAnswer, String>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let (usage, cost) =
                (Some(Usage { completion_tokens: 9, ..Usage::default() }), Some(Money::from_dollars(0.001)));
            Ok(ShadowAnswer { text: "shadow's answer".into(), usage, cost, ms: 5.0, ..ShadowAnswer::default() })
        })
    }
}

#[tokio::test]
async fn shadows_answer_beside_within_queue_and_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[[experiment]]\nname = \"listen\"\nkind = \"shadow\"\nby = \"request\"\nkeep = true\nqueue = 6\n\
                max_concurrent = 1\nmax_dollars_per_day = 0.004\ndeployments = [\"local/smollm2-135m\"]";
    let config = config(folder.path(), text);
    let experiments = start(&config);
    let request = Arc::new(ChatRequest::from_prompt("a secret prompt").expect("parses"));
    for at in 0..10 {
        let id = format!("dec_{at}");
        let assigned = experiments.assign(&subject("s", &id));
        assert_eq!(experiments.change(&assigned), Change::default(), "the caller gets what it would get");
        assert!(experiments.wants_text(&assigned, &id, "code"));
        experiments.copy(&assigned, &request, &id, "code", |_| true);
        experiments.copy(&assigned, &request, &id, "code", |_| false); // where it may not go, nothing does
        experiments.answered(&assigned, &id, &Answered::default());
    }
    let assigned = experiments.assign(&subject("s", "dec_0"));
    let (decision, class, deployment) = ("dec_0".into(), "code".into(), "d".into());
    experiments.served(
        &assigned,
        Answer { request, decision, class, deployment, text: "served answer".into() },
        |_| true,
    );
    let counts = experiments.counts().0[0].1;
    assert_eq!((counts.taken, counts.dropped), (6, 4));
    experiments.run(Arc::new(Slow), |_| {});
    tokio::time::timeout(Duration::from_secs(5), async {
        while experiments.counts().0[0].1.done < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all are done");
    experiments.flush();
    let arms = |arm: &str| {
        let ours = |line: &&Line| matches!(line, Line::Answered(event) if event.arm == arm);
        lines(folder.path(), "listen").iter().filter(ours).count()
    };
    assert_eq!((arms("control"), arms("local/smollm2-135m")), (10, 4), "the day's budget is four answers");
    let kept = std::fs::read_to_string(folder.path().join("listen.answers.jsonl")).expect("kept");
    assert!(kept.contains("served answer") && kept.matches("shadow's answer").count() == 4);
    let log = std::fs::read_to_string(folder.path().join("listen.jsonl")).expect("written");
    assert!(!log.contains("secret") && !log.contains("answer\"") && !log.contains("\"s\""));
    // Spent is spent, also after a restart.
    let again = start(&config);
    let assigned = again.assign(&subject("s", "dec_0"));
    again.run(Arc::new(Slow), |_| {});
    again.copy(&assigned, &Arc::new(ChatRequest::from_prompt("x").expect("parses")), "dec_0", "code", |_| true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    again.flush();
    assert_eq!((again.counts().0[0].1.done, arms("local/smollm2-135m")), (1, 4));
}
