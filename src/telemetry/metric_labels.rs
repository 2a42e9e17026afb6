//! The labels of the metrics.

use prometheus_client::encoding::EncodeLabelSet;

use super::series::ConfigurationLabel;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) plane: &'static str,
    pub(super) route: String,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ChainLabels {
    pub(super) configuration_id: ConfigurationLabel,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GuardLabels {
    pub(super) category: &'static str,
    pub(super) action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProxyLabels {
    pub(super) operation: &'static str,
    pub(super) status: u16,
    pub(super) configuration_id: ConfigurationLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ConversionLabels {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) result: &'static str,
}

macro_rules! label_sets {
    ($($name:ident { $label:ident })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: &'static str,
        }
    )+};
}

label_sets! {
    OperationLabel { operation }
    ReasonLabel { reason }
    ResultLabel { result }
    KindLabel { kind }
    VerdictLabel { verdict }
    OutcomeLabel { outcome }
}
