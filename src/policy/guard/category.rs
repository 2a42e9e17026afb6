//! The kinds of values that the guard detects, in groups.

use crate::domain::text_enum::text_enum;

text_enum! {
    /// What a detected value is. Secrets stand first: of two values of the same length the earlier
    /// category wins.
    pub enum Category {
        /// PEM or OpenSSH private keys.
        PrivateKey = "private_key",
        /// URLs with a user name and a password.
        ConnectionString = "connection_string",
        /// Keys of this gateway.
        GatewayKey = "gateway_key",
        /// Anthropic's keys and OAuth tokens.
        AnthropicKey = "anthropic_key",
        OpenAiKey = "openai_key",
        ModelProviderKey = "model_provider_key",
        /// AWS access keys and Bedrock keys.
        AwsKey = "aws_key",
        GithubToken = "github_token",
        GitlabToken = "gitlab_token",
        /// Google's API keys and OAuth tokens.
        GoogleKey = "google_key",
        /// Azure's client secrets and shared keys.
        AzureKey = "azure_key",
        /// Slack's tokens and webhooks.
        SlackToken = "slack_token",
        /// Stripe's secret keys.
        StripeKey = "stripe_key",
        SendgridKey = "sendgrid_key",
        /// Datadog's API and application keys.
        DatadogKey = "datadog_key",
        NpmToken = "npm_token",
        PypiToken = "pypi_token",
        /// JSON Web Tokens.
        Jwt = "jwt",
        /// Values that look random, after a name such as `password`.
        NamedSecret = "named_secret",
        PaymentCard = "payment_card",
        /// International bank account numbers.
        Iban = "iban",
        /// US social security numbers.
        UsSsn = "us_ssn",
        /// Brazil: natural persons.
        BrCpf = "br_cpf",
        /// Brazil: legal persons.
        BrCnpj = "br_cnpj",
        /// Canada: social insurance numbers.
        CaSin = "ca_sin",
        /// India: Aadhaar.
        InAadhaar = "in_aadhaar",
        /// China: resident identity numbers.
        CnResidentId = "cn_resident_id",
        /// Japan: My Number.
        JpMyNumber = "jp_my_number",
        /// South Korea: resident registration numbers.
        KrRrn = "kr_rrn",
        /// Australia: tax file numbers.
        AuTfn = "au_tfn",
        /// Spain: DNI and NIE.
        EsDni = "es_dni",
        /// Italy: codice fiscale.
        ItCodiceFiscale = "it_codice_fiscale",
        /// France: NIR.
        FrNir = "fr_nir",
        /// Germany: tax identification numbers.
        DeTaxId = "de_tax_id",
        /// United Kingdom: national insurance numbers.
        UkNino = "uk_nino",
        /// Netherlands: BSN.
        NlBsn = "nl_bsn",
        /// Poland: PESEL.
        PlPesel = "pl_pesel",
        /// Mexico: CURP.
        MxCurp = "mx_curp",
        /// Turkey: T.C. Kimlik No.
        TrKimlik = "tr_kimlik",
        /// South Africa: identity numbers.
        ZaId = "za_id",
        /// Argentina: CUIT and CUIL.
        ArCuit = "ar_cuit",
        /// Russia: INN.
        RuInn = "ru_inn",
        /// Russia: SNILS.
        RuSnils = "ru_snils",
        /// E-mail addresses.
        Email = "email",
        Phone = "phone",
        /// Bitcoin and Ethereum addresses.
        CryptoAddress = "crypto_address",
        /// IPv4 and IPv6 addresses.
        IpAddress = "ip_address",
        /// Hardware addresses.
        MacAddress = "mac_address",
        PersonName = "person_name",
        /// Places: addresses, towns, countries.
        Location = "location",
        /// Companies, agencies, institutions.
        Organization = "organization",
        /// Matches of a policy's own patterns.
        Custom = "custom",
    }
}

/// A group of categories, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Credentials.
    Secrets,
    /// Personal data with a form of their own.
    Pii,
    /// Personal data that only a service recognizes, see [`entities`](super::entities).
    Entities,
    /// A policy's own patterns.
    Custom,
}

impl Category {
    /// The group that the category belongs to.
    pub fn group(self) -> Group {
        match self {
            Self::Custom => Group::Custom,
            Self::PersonName | Self::Location | Self::Organization => Group::Entities,
            secret if secret <= Self::NamedSecret => Group::Secrets,
            _ => Group::Pii,
        }
    }

    /// What placeholders call it: capital letters only. A model need not be told whose secret it was.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Custom => "VALUE",
            Self::PaymentCard => "CARD",
            Self::Iban => "IBAN",
            Self::UsSsn => "SSN",
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::CryptoAddress => "WALLET",
            Self::IpAddress => "IP",
            Self::MacAddress => "MAC",
            Self::PersonName => "PERSON",
            Self::Location => "PLACE",
            Self::Organization => "ORG",
            category if category.group() == Group::Secrets => "SECRET",
            _ => "ID",
        }
    }
}

/// A set of categories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Categories(u64);

const _: () = assert!(Category::ALL.len() <= u64::BITS as usize);

impl Categories {
    /// All categories of a group.
    pub fn of_group(group: Group) -> Self {
        Category::ALL.into_iter().filter(|category| category.group() == group).collect()
    }

    /// Whether the category is in the set.
    pub fn contains(self, category: Category) -> bool {
        self.0 & (1 << category as u32) != 0
    }

    /// Adds a category.
    pub fn insert(&mut self, category: Category) {
        self.0 |= 1 << category as u32;
    }

    /// The categories of either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The categories that are in both sets.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set has no category.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The categories, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Category> {
        Category::ALL.into_iter().filter(move |category| self.contains(*category))
    }
}

impl FromIterator<Category> for Categories {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        let mut set = Self::default();
        categories.into_iter().for_each(|category| set.insert(category));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_no_category_and_miss_none() {
        let groups = [Group::Secrets, Group::Pii, Group::Entities, Group::Custom];
        let groups = groups.map(Categories::of_group);
        assert_eq!(
            groups.map(|group| group.iter().count()).iter().sum::<usize>(),
            Category::ALL.len()
        );
        assert!(
            groups[0].contains(Category::PrivateKey) && groups[0].contains(Category::NamedSecret)
        );
        assert!(
            groups[1].contains(Category::PaymentCard) && groups[1].contains(Category::MacAddress)
        );
        assert!(Categories::default().is_empty());
    }

    #[test]
    fn texts_and_labels() {
        for category in Category::ALL {
            assert_eq!(Category::parse(category.as_str()), Some(category));
            let label = category.label();
            assert!(!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_uppercase()));
        }
        assert_eq!(Category::parse("emails"), None);
    }
}
