//! Teaching while it runs: exemplars, feedback, retraining and versions, through the application.

use crate::harness::{ANSWER, Answered, Bench, Script, chat, send};
use axum::Extension;
use axum::Router as Routes;
use axum::extract::ConnectInfo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use waypost::http;
use waypost::router::Router;
use waypost::teaching;

/// Small enough to train in a second or two.
const RECIPE: &str = r#"
min_steps = 60
exit_hidden = 8
exit_loss = 0.002
exit_doubt = 0.9
default_class = "general"
[labels]
folds = 3
familiar_folds = 2
reworded = 0.2
component_views = [1, 1, 1, 1, 1, 1, 1, 1, 1]
landmarks = 100
sharpness = 2.0
ridge = 1.0
hidden = 32
components = 16
components_share = 0.2
epochs = 6
batch = 64
learning_rate = 0.003
weight_decay = 0.02
dropout = 0.2
smoothing = 0.05
neighbors = 10
temperature = 0.2
shrink = 0.5
gate_share = 0.01
[outcomes]
folds = 3
familiar_folds = 2
reworded = 0.2
component_views = [1, 1, 1, 1, 1, 1, 1, 1, 1]
landmarks = 100
sharpness = 2.0
ridge = 1.0
hidden = 32
components = 16
components_share = 0.5
epochs = 4
batch = 64
learning_rate = 0.001
weight_decay = 0.5
dropout = 0.5
smoothing = 0.05
neighbors = 10
temperature = 0.1
shrink = 0.02
gate_share = 0.002
"#;

/// A prompt that no exemplar has.
const ODD: &str = "Kindly re-pot the seven ferns of the north conservatory before vespers.";

/// Short exemplars, every second one to train on and the others to come later.
fn exemplars(odd: bool) -> Vec<Value> {
    let text = std::fs::read_to_string("data/exemplars/short.jsonl").unwrap();
    text.lines().skip(usize::from(odd)).step_by(2).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder with a small recipe and a small routing model, trained once.
static SMALL: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = exemplars(false).iter().map(|exemplar| format!("{exemplar}\n")).collect();
    std::fs::write(folder.path().join("labels.jsonl"), lines).unwrap();
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    let trained = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .current_dir(folder.path())
        .args(["train", "--labels", "labels.jsonl", "--recipe", "recipe.toml", "--name", "small", "--out", "models"])
        .output()
        .unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    folder
});

/// A place of its own with the small routing model, where one application after the other can be started.
struct Place {
    folder: TempDir,
    more: String,
}

impl Place {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&SMALL.path().join("models/small"), &folder.path().join("models/small"));
        Place { folder, more: more.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn router(&self) -> Arc<Router> {
        let recipe = SMALL.path().join("recipe.toml");
        let text = format!(
            "[routing]\nmodel = {:?}\n[teaching]\nfolder = {:?}\nrecipe = {recipe:?}\n{}",
            self.path("models/small"),
            self.path("teaching"),
            self.more
        );
        let router = Bench::new(&text).with("one", &["*"], (1.0, 1.0), Script::Answer(ANSWER)).router();
        teaching::resume(&router).await;
        router
    }

    /// The application as a program on this machine sees it.
    async fn app(&self) -> Routes {
        local(http::app(self.router().await))
    }
}

fn local(app: Routes) -> Routes {
    from(app, [127, 0, 0, 1])
}

fn from(app: Routes, peer: [u8; 4]) -> Routes {
    app.layer(Extension(ConnectInfo(SocketAddr::from((peer, 5_000)))))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

async fn ask(app: &Routes, method: &str, path: &str, body: Value) -> Answered {
    send(app, method, path, &[], if body.is_null() { String::new() } else { body.to_string() }).await
}

async fn get(app: &Routes, path: &str) -> Value {
    ask(app, "GET", path, Value::Null).await.json()
}

async fn explain(app: &Routes, prompt: &str) -> Value {
    ask(app, "POST", "/explain", serde_json::from_str(&chat("auto", prompt, false)).unwrap()).await.json()
}

fn qualities(decision: &Value) -> Vec<(String, f64)> {
    let classes = decision["classes"].as_array().unwrap().iter();
    let mut all: Vec<_> = classes
        .map(|class| (class["class"].as_str().unwrap().to_string(), class["quality"].as_f64().unwrap()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Waits for the retraining to end.
async fn ended(app: &Routes) -> Value {
    let start = Instant::now();
    loop {
        let job = get(app, "/admin/retrain").await;
        if job["state"] != "running" {
            return job;
        }
        assert!(start.elapsed() < Duration::from_secs(300), "{job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_added_exemplar_is_the_first_neighbor_at_once_until_it_is_removed() {
    let place = Place::new();
    let app = place.app().await;
    let before = explain(&app, ODD).await;
    let start = Instant::now();
    let added =
        ask(&app, "POST", "/admin/exemplars", json!({"id": "fern", "prompt": ODD, "class": "tools", "source": "mine"}))
            .await;
    assert_eq!((added.status.as_u16(), added.json()), (201, json!({"ids": ["fern"]})));
    let after = explain(&app, ODD).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let first = &after["neighbors"][0];
    assert_eq!((&first["id"], &first["label"]), (&json!("fern"), &json!("tools")));
    assert!(first["similarity"].as_f64().unwrap() > 0.999);

    let mine = get(&app, "/admin/exemplars?source=mine").await;
    assert_eq!(
        (&mine["data"][0]["id"], &mine["data"][0]["added"], &mine["has_more"]),
        (&json!("fern"), &true.into(), &false.into())
    );
    assert_eq!(get(&app, "/admin/exemplars?added=true").await["data"].as_array().unwrap().len(), 1);
    let first = get(&app, "/admin/exemplars?limit=2").await;
    assert_eq!((&first["data"][0]["id"], &first["has_more"]), (&json!("fern"), &true.into()));
    let after = first["data"][1]["id"].as_str().unwrap();
    assert_ne!(get(&app, &format!("/admin/exemplars?limit=1&after={after}")).await["data"][0]["id"], after);

    let again = ask(&app, "POST", "/admin/exemplars", json!({"id": "fern", "prompt": "x", "class": "tools"})).await;
    assert_eq!((again.status.as_u16(), &again.json()["error"]["code"]), (409, &json!("exemplar_exists")));
    assert_eq!(ask(&app, "DELETE", "/admin/exemplars/fern", Value::Null).await.status, 200);
    assert_eq!(ask(&app, "DELETE", "/admin/exemplars?id=fern", Value::Null).await.status, 404);
    assert_eq!(explain(&app, ODD).await["neighbors"], before["neighbors"]);
    assert_eq!(qualities(&explain(&app, ODD).await), qualities(&before));
}

#[tokio::test]
async fn what_was_taught_survives_a_restart() {
    let place = Place::new();
    let app = place.app().await;
    let known = explain(&app, ODD).await["neighbors"][0]["id"].as_str().unwrap().to_string();
    assert_eq!(ask(&app, "DELETE", &format!("/admin/exemplars?id={known}"), Value::Null).await.status, 200);
    let many =
        json!({"exemplars": [{"prompt": ODD, "class": "creative"}, {"id": "gone", "prompt": "x", "class": "code"}]});
    assert_eq!(ask(&app, "POST", "/admin/exemplars", many).await.status, 201);
    ask(&app, "DELETE", "/admin/exemplars/gone", Value::Null).await;
    let before = explain(&app, ODD).await;
    drop(app);
    for _ in 0..2 {
        let app = place.app().await;
        let after = explain(&app, ODD).await;
        assert_eq!((&after["neighbors"], qualities(&after)), (&before["neighbors"], qualities(&before)));
        assert!(before["neighbors"].as_array().unwrap().iter().all(|neighbor| neighbor["id"] != known.as_str()));
        assert_eq!(get(&app, "/admin/exemplars?added=true").await["data"].as_array().unwrap().len(), 1);
    }
    let journal = std::fs::read_to_string(place.path("teaching/journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 2, "compacted: {journal}");
}

#[tokio::test]
async fn a_change_that_cannot_be_written_does_not_happen() {
    let place = Place::new();
    let app = place.app().await;
    std::fs::write(place.path("teaching"), "a file where the folder should be").unwrap();
    let before = explain(&app, ODD).await["neighbors"].clone();
    let refused = ask(&app, "POST", "/admin/exemplars", json!({"prompt": ODD, "class": "tools"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["type"]), (500, &json!("server_error")));
    let known = before[0]["id"].as_str().unwrap();
    assert_eq!(ask(&app, "DELETE", &format!("/admin/exemplars?id={known}"), Value::Null).await.status, 500);
    assert_eq!(explain(&app, ODD).await["neighbors"], before);
}

#[tokio::test]
async fn a_folder_is_taught_in_by_one_process_and_only_so_much() {
    let place = Place::with("max_exemplars = 2");
    let (app, other) = (place.app().await, place.app().await);
    let one = |prompt: &str| json!({"prompt": prompt, "class": "tools"});
    assert_eq!(ask(&app, "POST", "/admin/exemplars", one("first")).await.status, 201);
    let refused = ask(&other, "POST", "/admin/exemplars", one("second")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (409, &json!("folder_in_use")));
    assert_eq!(ask(&app, "POST", "/admin/exemplars", one("second")).await.status, 201);
    let refused = ask(&app, "POST", "/admin/exemplars", one("third")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (409, &json!("too_many_exemplars")));
}

#[tokio::test]
async fn who_may_teach() {
    let place = Place::new();
    let key = place.path("key");
    std::fs::write(&key, "right\n").unwrap();
    let open = http::app(place.router().await);
    let path = "/admin/exemplars";
    for (app, headers, status, code) in [
        (open.clone(), vec![], 403, "admin_is_local"),
        (from(open.clone(), [10, 0, 0, 7]), vec![], 403, "admin_is_local"),
        (local(open.clone()), vec![], 200, ""),
        (local(open.clone()), vec![("host", "localhost:8080")], 200, ""),
        (local(open.clone()), vec![("host", "evil.example")], 403, "admin_is_local"),
        (local(open.clone()), vec![("origin", "http://evil.example")], 403, "admin_is_local"),
    ] {
        let answered = send(&app, "GET", path, &headers, "").await;
        assert_eq!(
            (answered.status.as_u16(), answered.json()["error"]["code"].as_str().unwrap_or("")),
            (status, code),
            "{headers:?}"
        );
    }
    let locked = Place::with(&format!("[admin]\nkey = \"file:{}\"", key.display()));
    let locked = http::app(locked.router().await);
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", "Bearer wrong")], 401),
        (vec![("authorization", "right")], 401),
        (vec![("x-api-key", "righ")], 401),
        (vec![("authorization", "Bearer right")], 200),
        (vec![("authorization", "bearer right"), ("origin", "http://dashboard.example")], 200),
        (vec![("x-api-key", "right")], 200),
    ] {
        for app in [locked.clone(), local(locked.clone())] {
            let answered = send(&app, "GET", path, &headers, "").await;
            assert_eq!(answered.status.as_u16(), status, "{headers:?}");
            if status == 401 {
                assert_eq!(
                    (&answered.json()["error"]["code"], answered.header("www-authenticate")),
                    (&json!("invalid_api_key"), "Bearer")
                );
            }
        }
    }
    for (method, path) in [
        ("POST", "/admin/exemplars"),
        ("DELETE", "/admin/exemplars/x"),
        ("GET", "/admin/exemplars/export"),
        ("GET", "/admin/exemplars/candidates"),
        ("POST", "/admin/exemplars/candidates/x"),
        ("POST", "/admin/retrain"),
        ("GET", "/admin/retrain"),
        ("DELETE", "/admin/retrain"),
        ("GET", "/admin/models"),
        ("POST", "/admin/models/x/activate"),
        ("POST", "/admin/models/rollback"),
    ] {
        assert_eq!(send(&locked, method, path, &[], "{}").await.status, 401, "{method} {path}");
    }
    assert_eq!(send(&locked, "POST", "/v1/feedback", &[], r#"{"decision": "dec_0", "score": 1}"#).await.status, 404);
    let missing = waypost::config::Config::resolve(
        "t",
        waypost::config::layered("t", "[admin]\nkey = \"file:/nowhere\"").unwrap(),
    );
    assert!(missing.err().unwrap().to_string().contains("admin.key"));
}

#[tokio::test]
async fn feedback_becomes_a_candidate_and_an_accepted_one_an_exemplar() {
    let place = Place::new();
    let app = place.app().await;
    let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", ODD, false)).await;
    let (decision, said) =
        (answered.header("x-waypost-decision").to_string(), answered.header("x-waypost-class").to_string());
    assert!(
        !get(&app, &format!("/explain/{decision}")).await.to_string().contains("conservatory"),
        "no prompt in /explain"
    );
    let score = ask(&app, "POST", "/v1/feedback", json!({"decision": decision, "score": 0.2, "comment": "thin"})).await;
    assert_eq!((score.status.as_u16(), &score.json()["status"]), (201, &json!("pending")));
    let label = ask(&app, "POST", "/v1/feedback", json!({"decision": decision, "label": "tools"})).await;
    let id = score.json()["candidate"].as_str().unwrap().to_string();
    assert_eq!(label.json()["candidate"], id.as_str(), "the second word takes the place of the first");
    let listed = get(&app, "/admin/exemplars/candidates").await["data"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let candidate = &listed[0];
    assert_eq!(
        (&candidate["prompt"], &candidate["class"], &candidate["said"], &candidate["deployment"]),
        (&json!(ODD), &json!("tools"), &json!(said), &json!("one"))
    );
    assert_eq!(send(&app, "GET", "/admin/exemplars/export?candidates=true", &[], "").await.text, "");

    let judge = format!("/admin/exemplars/candidates/{id}");
    let accepted = ask(&app, "POST", &judge, json!({"status": "accepted"})).await;
    assert_eq!((accepted.status.as_u16(), &accepted.json()["status"]), (200, &json!("accepted")));
    assert_ne!(
        explain(&app, ODD).await["neighbors"][0]["id"],
        id.as_str(),
        "without a label it waits for the retraining"
    );
    let accepted = ask(&app, "POST", &judge, json!({"status": "accepted", "label": "creative"})).await;
    assert_eq!((accepted.status.as_u16(), &accepted.json()["class"]), (200, &json!("creative")));
    let first = explain(&app, ODD).await["neighbors"][0].clone();
    assert_eq!((&first["id"], &first["label"]), (&json!(id), &json!("creative")));
    for path in ["/admin/exemplars/export?candidates=true", "/admin/exemplars/export"] {
        let exported = send(&app, "GET", path, &[], "").await.text;
        let last: Value = serde_json::from_str(exported.lines().last().unwrap()).unwrap();
        assert_eq!((&last["prompt"], &last["class"]), (&json!(ODD), &json!("creative")));
    }
    let decided = ask(&app, "POST", "/v1/feedback", json!({"decision": decision, "score": 1})).await;
    assert_eq!(decided.status, 409);
    drop(app);

    let app = place.app().await;
    assert_eq!(get(&app, "/admin/exemplars/candidates?status=accepted").await["data"][0]["id"], id.as_str());
    let rejected = ask(&app, "POST", &judge, json!({"status": "rejected"})).await;
    assert_eq!((rejected.status.as_u16(), &rejected.json()["status"]), (200, &json!("rejected")));
    assert_ne!(explain(&app, ODD).await["neighbors"][0]["id"], id.as_str());
}

#[tokio::test]
async fn mistakes_name_the_field() {
    let app = Place::new().app().await;
    let id = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", ODD, false))
        .await
        .header("x-waypost-decision")
        .to_string();
    let long = "x".repeat(20_000);
    let good = json!({"prompt": "p", "class": "code"});
    for (path, body, status, param) in [
        ("/v1/feedback", json!({"score": 1}), 400, "decision"),
        ("/v1/feedback", json!({"decision": "dec_0", "score": 1}), 404, ""),
        ("/v1/feedback", json!({"decision": id}), 400, "score"),
        ("/v1/feedback", json!({"decision": id, "score": 1, "label": "code"}), 400, "label"),
        ("/v1/feedback", json!({"decision": id, "score": 1.1}), 400, "score"),
        ("/v1/feedback", json!({"decision": id, "score": "1"}), 400, "score"),
        ("/v1/feedback", json!({"decision": id, "label": "poetry"}), 400, "label"),
        ("/v1/feedback", json!({"decision": id, "score": 1, "comment": long}), 400, "comment"),
        ("/v1/feedback", json!("good"), 400, ""),
        ("/admin/exemplars", json!({"prompt": " ", "class": "code"}), 400, "exemplars[0].prompt"),
        ("/admin/exemplars", json!({"prompt": long, "class": "code"}), 400, "exemplars[0].prompt"),
        ("/admin/exemplars", json!({"prompt": "p"}), 400, "exemplars[0].class"),
        ("/admin/exemplars", json!({"prompt": "p", "class": "poetry"}), 400, "exemplars[0].class"),
        ("/admin/exemplars", json!({"exemplars": [good, {"prompt": "p", "class": 7}]}), 400, "exemplars[1]"),
        ("/admin/exemplars", json!({"exemplars": []}), 400, "exemplars"),
        ("/admin/exemplars", json!({"exemplars": 3}), 400, "exemplars"),
        ("/admin/exemplars/candidates/none", json!({"status": "accepted"}), 404, ""),
        ("/admin/exemplars/candidates/none", json!({"status": "perhaps"}), 400, ""),
        ("/admin/retrain", json!({"exemplars": [{"prompt": "p", "class": "poetry"}]}), 400, "exemplars[0].class"),
        ("/admin/retrain", json!({"force": "yes"}), 400, ""),
        ("/admin/models/none/activate", json!({}), 404, ""),
        ("/admin/models/builtin/activate", json!({}), 404, ""),
        ("/admin/models/rollback", json!({}), 409, ""),
    ] {
        let answered = ask(&app, "POST", path, body.clone()).await;
        let error = answered.json()["error"].clone();
        assert_eq!(
            (answered.status.as_u16(), error["param"].as_str().unwrap_or("")),
            (status, param),
            "{path}: {error}"
        );
    }
    assert!(
        ask(&app, "POST", "/admin/exemplars", json!({"prompt": "p", "class": "poetry"}))
            .await
            .text
            .contains("creative")
    );
    assert_eq!(ask(&app, "DELETE", "/admin/exemplars/none", Value::Null).await.status, 404);
    assert_eq!(ask(&app, "DELETE", "/admin/retrain", Value::Null).await.status, 409);
    for path in ["/admin/exemplars?limit=0", "/admin/exemplars?limit=x", "/admin/exemplars/candidates?status=odd"] {
        assert_eq!(ask(&app, "GET", path, Value::Null).await.status, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retraining_swaps_the_version_under_running_requests_and_rolls_back_bit_for_bit() {
    let place = Place::new();
    let app = place.app().await;
    let prompts: Vec<String> =
        exemplars(true).iter().step_by(60).map(|exemplar| exemplar["prompt"].as_str().unwrap().into()).collect();
    let mut before = Vec::new();
    for prompt in &prompts {
        before.push(qualities(&explain(&app, prompt).await));
    }
    let old = get(&app, "/admin/models").await["data"][0]["version"].as_str().unwrap().to_string();

    assert_eq!(
        ask(&app, "POST", "/admin/exemplars", json!({"id": "fern", "prompt": ODD, "class": "tools"})).await.status,
        201
    );
    let started = ask(&app, "POST", "/admin/retrain", json!({"exemplars": exemplars(true)})).await;
    assert_eq!(started.status, 202, "{}", started.text);
    assert_eq!(ask(&app, "POST", "/admin/retrain", Value::Null).await.status, 409);
    assert_eq!(ask(&app, "POST", &format!("/admin/models/{old}/activate"), Value::Null).await.status, 409);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move {
                let (mut served, mut versions) = (0, std::collections::BTreeSet::new());
                loop {
                    let job = get(&app, "/admin/retrain").await;
                    let answered = send(&app, "POST", "/v1/chat/completions", &[], chat("auto", ODD, false)).await;
                    assert_eq!(answered.status, 200);
                    versions.insert(crate::harness::decision_of(&app, &answered).await["routing_model"].to_string());
                    served += 1;
                    // The training has the lowest priority: callers without a pause would starve it here.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if job["state"] != "running" {
                        return (served, versions);
                    }
                }
            })
        })
        .collect();
    let job = ended(&app).await;
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["comparison"]["prompts"].as_u64().unwrap() > 200, "{job}");
    for caller in callers {
        let (served, versions) = caller.await.unwrap();
        assert!(served > 1 && versions.len() == 2, "{served} served by {versions:?}");
    }
    let new = job["version"].as_str().unwrap().to_string();
    let models = get(&app, "/admin/models").await;
    assert_eq!(
        (&models["serving"], &models["data"][0]["version"], &models["data"][0]["serving"]),
        (&json!(format!("small@{new}")), &json!(new), &true.into())
    );
    assert!(models["builtin"].is_null());
    // What was added is learned from by now, and no addition any more.
    assert!(get(&app, "/admin/exemplars?added=true").await["data"].as_array().unwrap().is_empty());
    assert_eq!(explain(&app, ODD).await["neighbors"][0]["id"], "fern");
    assert_eq!(std::fs::read_to_string(place.path("teaching/journal.jsonl")).unwrap(), "");

    let mut after = Vec::new();
    for prompt in &prompts {
        after.push(qualities(&explain(&app, prompt).await));
    }
    assert_ne!(before, after);
    for (path, expected, serving) in [
        ("/admin/models/rollback".to_string(), &before, &old),
        (format!("/admin/models/{new}/activate"), &after, &new),
        (format!("/admin/models/{old}/activate"), &before, &old),
    ] {
        let answered = ask(&app, "POST", &path, Value::Null).await;
        assert_eq!((answered.status.as_u16(), answered.json()), (200, json!({"serving": format!("small@{serving}")})));
        for (prompt, expected) in prompts.iter().zip(expected) {
            assert_eq!(&qualities(&explain(&app, prompt).await), expected, "{path}");
        }
    }
    drop(app);
    let app = place.app().await;
    assert_eq!(get(&app, "/admin/models").await["serving"], format!("small@{old}"), "also after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_labels_are_refused_with_what_became_worse() {
    let place = Place::new();
    let app = place.app().await;
    let serving = get(&app, "/admin/models").await["serving"].clone();
    let mut poison = exemplars(false);
    let classes: std::collections::BTreeSet<String> =
        poison.iter().map(|exemplar| exemplar["class"].as_str().unwrap().to_string()).collect();
    let classes: Vec<String> = classes.into_iter().collect();
    for exemplar in &mut poison {
        let place = classes.iter().position(|class| *class == exemplar["class"]).unwrap();
        exemplar["class"] = json!(classes[(place + 1) % classes.len()]);
    }
    let before = explain(&app, ODD).await;
    assert_eq!(ask(&app, "POST", "/admin/retrain", json!({"exemplars": poison})).await.status, 202);
    let job = ended(&app).await;
    assert_eq!(job["state"], "refused", "{job}");
    assert!(job["reason"].as_str().unwrap().contains("not published"), "{job}");
    let losses = job["losses"].as_array().unwrap();
    assert!(losses.len() >= 5 && losses[0]["current"].as_f64() > losses[0]["candidate"].as_f64(), "{job}");
    assert_eq!(get(&app, "/admin/models").await["serving"], serving);
    assert_eq!(qualities(&explain(&app, ODD).await), qualities(&before));

    let forced = ask(&app, "POST", "/admin/retrain", json!({"exemplars": poison, "force": true})).await;
    assert_eq!(forced.status, 202);
    assert_eq!(ended(&app).await["state"], "done");
    assert_ne!(get(&app, "/admin/models").await["serving"], serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retraining_can_be_cancelled_and_one_that_fails_says_why() {
    let place = Place::new();
    let router = place.router().await;
    let app = local(http::app(router.clone()));
    let current = || std::fs::read_to_string(place.path("models/small/current")).unwrap();
    let before = current();
    assert_eq!(ask(&app, "POST", "/admin/retrain", json!({"seed": 5})).await.status, 202);
    while get(&app, "/admin/retrain").await["step"] == "gathering" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&app, "DELETE", "/admin/retrain", Value::Null).await.status, 202);
    assert_eq!(ended(&app).await["state"], "cancelled");
    assert_eq!(current(), before);

    // An id that stands for two prompts is found by the training itself.
    let twice = json!({"exemplars": [{"id": "a", "prompt": "one", "class": "code"}, {"id": "a", "prompt": "two", "class": "code"}]});
    assert_eq!(ask(&app, "POST", "/admin/retrain", twice).await.status, 202);
    let job = ended(&app).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["reason"].as_str().unwrap().contains("is used twice"), "{job}");
    assert_eq!(current(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_builtin_model_a_published_version_serves_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[teaching]\nfolder = {:?}", folder.path());
    let start = || {
        let bench = Bench::new(&text).with("one", &["*"], (1.0, 1.0), Script::Answer(ANSWER));
        let app = local(http::app(bench.router()));
        async move { app }
    };
    let app = start().await;
    let builtin = get(&app, "/admin/models").await;
    let version = builtin["builtin"].as_str().unwrap().to_string();
    assert_eq!((&builtin["serving"], &builtin["data"]), (&json!(format!("default@{version}")), &json!([])));
    copy(&SMALL.path().join("models/small"), &folder.path().join("models/default"));
    let other = get(&app, "/admin/models").await["data"][0]["version"].as_str().unwrap().to_string();
    assert_eq!(ask(&app, "POST", &format!("/admin/models/{other}/activate"), Value::Null).await.status, 200);
    drop(app);
    let app = start().await;
    assert_eq!(get(&app, "/admin/models").await["data"][0]["serving"], true);
    assert_eq!(ask(&app, "POST", "/admin/models/builtin/activate", Value::Null).await.status, 200);
    drop(app);
    let app = start().await;
    assert_eq!(get(&app, "/admin/models").await["serving"], format!("default@{version}"));
    // What cannot serve is passed over.
    std::fs::write(folder.path().join("models/default/current"), "damaged\n").unwrap();
    drop(app);
    assert_eq!(get(&start().await, "/admin/models").await["serving"], format!("default@{version}"));
}
