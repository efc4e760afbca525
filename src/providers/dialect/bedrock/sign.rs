//! AWS's signature, version 4, for service `bedrock`; or the API key, where there is one.

use super::super::insert_secret;
use crate::config::{AwsKeys, HttpProvider, Secret};
use crate::providers::{Failure, FailureKind};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use std::time::SystemTime;

/// The name that requests are signed for.
const SERVICE: &str = "bedrock";

/// Puts the API key in.
///
/// # Errors
/// `Misconfigured` where it holds what no header may hold.
pub fn bearer(request: &mut reqwest::Request, key: &Secret) -> Result<(), Failure> {
    insert_secret(request.headers_mut(), AUTHORIZATION, &format!("Bearer {}", key.reveal()))
}

/// The region that requests are signed for: as configured, or the one in the host's name.
///
/// # Errors
/// `Misconfigured` where neither tells it.
pub fn region(config: &HttpProvider) -> Result<String, Failure> {
    let named = || {
        let url = reqwest::Url::parse(&config.base_url).ok()?;
        let mut labels = url.host_str()?.split('.').skip_while(|label| !label.starts_with("bedrock-runtime"));
        Some(labels.nth(1)?.to_string()).filter(|label| label.contains('-'))
    };
    config.region.clone().or_else(named).ok_or_else(|| unusable("its `region` is missing"))
}

/// Signs the request as it would be sent at `time`. Host, content type, date and session token are signed, what
/// a proxy may change is not. The path is encoded once more for the signature, as all services but S3 want it.
///
/// # Errors
/// `Misconfigured` where the credentials cannot be used.
pub fn sign_at(request: &mut reqwest::Request, keys: &AwsKeys, region: &str, time: SystemTime) -> Result<(), Failure> {
    let token = keys.session_token.as_ref().map(|token| token.reveal().to_string());
    let identity =
        Credentials::new(keys.access_key.reveal(), keys.secret_key.reveal(), token, None, "configuration").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| unusable("its request cannot be signed"))?
        .into();
    let kind =
        request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(|kind| ("content-type", kind));
    let body = SignableBody::Bytes(request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default());
    let signable = SignableRequest::new(request.method().as_str(), request.url().as_str(), kind.into_iter(), body)
        .map_err(|_| unusable("its request cannot be signed"))?;
    let (instructions, _) = sign(signable, &params).map_err(|_| unusable("its request cannot be signed"))?.into_parts();
    let (signed, _) = instructions.into_parts();
    for header in signed {
        let mut value =
            HeaderValue::from_str(header.value()).map_err(|_| unusable("its credentials cannot be sent"))?;
        value.set_sensitive(header.name() != "x-amz-date");
        request.headers_mut().insert(HeaderName::from_static(header.name()), value);
    }
    Ok(())
}

fn unusable(why: &str) -> Failure {
    Failure { sent: false, ..Failure::new(FailureKind::Misconfigured, why) }
}

#[cfg(test)]
mod tests {
    use super::super::encoded;
    use super::*;
    use crate::config::{Config, ProviderKind, layered};
    use std::time::{Duration, UNIX_EPOCH};

    /// 2026-01-02 03:04:05 UTC, as in `signatures.py`.
    const TIME_S: u64 = 1_767_323_045;

    /// A secret through the one door that there is: a file.
    fn secret(value: &str) -> Secret {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), value).unwrap();
        Secret::read("test", "key", &format!("file:{}", file.path().display())).unwrap().unwrap()
    }

    /// botocore's signer is the oracle: the same request at the same time has the same signature.
    #[test]
    fn signatures_are_botocores() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/dialects/bedrock/signatures.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let text = |key: &str| case[key].as_str().unwrap();
            let path = format!("/model/{}/{}", encoded(text("model")), text("operation"));
            let url = format!("https://bedrock-runtime.{}.amazonaws.com{path}", text("region"));
            let client = reqwest::Client::new();
            let mut request = client.post(url).body(text("body").to_string()).build().unwrap();
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let keys = AwsKeys {
                access_key: secret("AKIDEXAMPLE"),
                secret_key: secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                session_token: case["token"].as_str().map(secret),
            };
            sign_at(&mut request, &keys, text("region"), UNIX_EPOCH + Duration::from_secs(TIME_S)).unwrap();
            assert_eq!(request.headers()["x-amz-date"], text("date"));
            assert_eq!(request.headers()[AUTHORIZATION], text("authorization"));
            assert!(request.headers()[AUTHORIZATION].is_sensitive());
            let token = request.headers().get("x-amz-security-token").map(|token| token.to_str().unwrap());
            assert_eq!(token, case["token"].as_str());
        }
    }

    #[test]
    fn the_region_is_read_off_the_hosts_name() {
        let region = |url: &str| {
            let text = format!("[[provider]]\nname = \"b\"\nkind = \"bedrock\"\nbase_url = \"{url}\"\n");
            let config = Config::resolve("test", layered("test", &text).unwrap()).unwrap();
            let found = config.providers.into_iter().find(|provider| provider.name == "b").unwrap();
            match found.kind {
                ProviderKind::Http(http) => super::region(&HttpProvider { region: None, ..http }).ok(),
                ProviderKind::Local(_) => panic!("an endpoint"),
            }
        };
        assert_eq!(region("https://bedrock-runtime.eu-central-1.amazonaws.com").as_deref(), Some("eu-central-1"));
        assert_eq!(
            region("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com").as_deref(),
            Some("us-gov-west-1")
        );
        let private = "https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com";
        assert_eq!(region(private).as_deref(), Some("us-east-1"));
        assert_eq!(region("http://127.0.0.1:4010"), None);
    }
}
