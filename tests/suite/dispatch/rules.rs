//! What operators decide beforehand.

use super::{add, bench};
use crate::asking::{decide, general, order, request, with_policy};
use crate::harness::{Bench, chat, send};
use waypost::decision::Basis;
use waypost::error::Error;
use waypost::http::app;
use waypost::router::Caller;

fn two(text: &str) -> Bench {
    add(add(bench(text), "eu", 2.0, |config| config.region = Some("eu".into())), "us", 1.0, |config| {
        config.region = Some("us".into());
        config.zero_retention = true;
    })
}

fn tagged(tag: &str) -> Caller {
    Caller { tags: vec![tag.into()], ..Caller::default() }
}

#[tokio::test]
async fn the_first_rule_that_matches_counts_and_the_header_is_laid_over_it() {
    let router = two("[[rule]]\nname = \"one\"\nwhen = { tags = [\"x\"] }\npolicy = \"max_attempts=5, priority=3\"\n\
        [[rule]]\nname = \"two\"\nwhen = { tags = [\"x\", \"y\"] }\npolicy = \"max_attempts=7\"")
    .router();
    for (tag, rule, attempts) in [("x", Some("one"), 5), ("y", Some("two"), 7), ("z", None, 3)] {
        let decision = decide(&router, &general(), &tagged(tag)).await;
        assert_eq!((decision.rule.as_deref(), decision.policy.max_attempts), (rule, attempts), "{tag}");
    }
    let laid = decide(&router, &general(), &with_policy("max_attempts=2", tagged("x"))).await;
    assert_eq!((laid.policy.max_attempts, laid.policy.priority), (2, Some(3)));
}

#[tokio::test]
async fn nobody_widens_where_a_request_may_go() {
    let rule =
        "[policies.abroad]\nallowed_regions = [\"us\"]\n[[rule]]\nname = \"r\"\nwhen = { tags = [\"x\"] }\npolicy = ";
    let router = two(&format!("[policy]\nallowed_regions = [\"eu\"]\n{rule}\"abroad\"")).router();
    assert_eq!(order(&decide(&router, &general(), &tagged("y")).await), ["eu"]);
    let against_default = router.decide(&general(), &tagged("x")).await;
    assert!(matches!(against_default, Err(Error::NothingFits { .. })), "a rule against [policy]");
    for header in ["abroad", "allowed_regions=us", "allowed_regions=us|eu", "allowed_regions=", "cheap"] {
        let decision = router.decide(&general(), &with_policy(header, tagged("y"))).await;
        assert!(decision.as_ref().map_or(true, |decision| order(decision) == ["eu"]), "{header} widened [policy]");
    }
    let router = two(&format!("{rule}\"abroad, zero_retention=true\"")).router();
    assert_eq!(order(&decide(&router, &general(), &tagged("y")).await), ["us", "eu"]);
    for header in ["allowed_regions=eu|us", "zero_retention=false", "allowed_regions=", "fast"] {
        let decision = decide(&router, &general(), &with_policy(header, tagged("x"))).await;
        assert_eq!((order(&decision), decision.policy.zero_retention), (vec!["us"], true), "{header} widened a rule");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_operators_words() {
    let router =
        two("[[rule]]\nname = \"no\"\nwhen = { keywords = [\"lottery\"] }\nrefuse = \"No advice on lotteries.\"")
            .router();
    let app = app(router);
    let refused =
        send(&app, "POST", "/v1/chat/completions", &[], chat("general", "Which lottery numbers?", false)).await;
    assert_eq!(refused.status, 403);
    let error = &refused.json()["error"];
    assert_eq!((&error["message"], &error["code"]), (&"No advice on lotteries.".into(), &"refused_by_rule".into()));
    assert_eq!(
        send(&app, "POST", "/v1/chat/completions", &[], chat("general", "Which numbers?", false)).await.status,
        200
    );
}

#[tokio::test]
async fn language_and_hours_choose_who_answers() {
    let text = "[[rule]]\nname = \"german\"\nwhen = { models = [\"general\"], languages = [\"deu\"] }\nclass = \"translation\"\n\
        [[rule]]\nname = \"monday\"\nwhen = { models = [\"general\"], between = \"09:00-17:00\", days = [\"mon\"], zone = \"Asia/Tokyo\" }\n\
        class = \"basic\"";
    let router =
        bench(text).with("all", &["*"], (1.0, 1.0), crate::harness::Script::Answer(crate::harness::ANSWER)).router();
    let at = |time: &str| Caller { at: Some(time.parse().unwrap()), ..Caller::default() };
    let german = request(&chat(
        "general",
        "Kannst du mir bitte erklären, warum der Himmel am Abend so rot ist? Ich habe gehört, dass es am Staub in der Luft liegt, verstehe aber nicht, was das Licht damit zu tun hat.",
        false,
    ));
    let english = request(&chat(
        "general",
        "Could you please explain to me why the sky is so red in the evening? I heard that it is the dust in the air, but I do not understand what the light has to do with it.",
        false,
    ));
    let tuesday = "2026-01-06T03:00:00Z";
    let decision = decide(&router, &german, &at(tuesday)).await;
    assert_eq!(
        (decision.class.as_str(), decision.rule.as_deref(), decision.basis),
        ("translation", Some("german"), Basis::Ruled)
    );
    let decision = decide(&router, &english, &at(tuesday)).await;
    assert_eq!((decision.class.as_str(), decision.rule), ("general", None));
    // Monday 09:00 in Tokyo is Monday 00:00 UTC.
    for (time, class) in [
        ("2026-01-04T23:59:59Z", "general"),
        ("2026-01-05T00:00:00Z", "basic"),
        ("2026-01-05T07:59:59Z", "basic"),
        ("2026-01-05T08:00:00Z", "general"),
    ] {
        assert_eq!(decide(&router, &english, &at(time)).await.class, class, "{time}");
    }
}

#[tokio::test]
async fn a_rule_may_be_about_a_model_that_nobody_here_has() {
    let text = "[[rule]]\nname = \"old-name\"\nwhen = { models = [\"gpt-4o\"] }\nclass = \"general\"";
    let router = two(text).router();
    let decision = decide(&router, &request(&chat("gpt-4o", "hi", false)), &Caller::default()).await;
    assert_eq!((decision.class.as_str(), decision.basis, &*decision.deployment), ("general", Basis::Ruled, "us"));
    let unknown = router.decide(&request(&chat("gpt-4", "hi", false)), &Caller::default()).await;
    assert!(matches!(unknown, Err(Error::UnknownModel { .. })));
}
