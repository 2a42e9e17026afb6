//! Numbers that their issuers or public documents give as examples, each with the next one, whose checksum
//! is wrong.

use super::super::entities::Entities;
use super::super::policy::{Guard, GuardConfig};

/// Category, an example after what names it, and a near miss.
const EXAMPLES: [(&str, &str, &str); 35] = [
    ("payment_card", "4111 1111 1111 1111", "4111 1111 1111 1112"),
    ("payment_card", "5555555555554444", "5555555555554445"),
    ("payment_card", "3782 822463 10005", "3782 822463 10006"),
    ("payment_card", "6011-1111-1111-1117", "6011-1111-1111-1118"),
    ("payment_card", "3530111333300000", "3530111333300001"),
    // Areas, groups and serials that are not assigned, and a number of an advertisement.
    ("us_ssn", "212-34-5678", "000-34-5678"),
    ("us_ssn", "212 34 5678", "666 34 5678"),
    ("us_ssn", "SSN: 212345678", "SSN: 912345678"),
    ("us_ssn", "899-34-5678", "899-00-5678"),
    ("us_ssn", "001-01-0001", "001-01-0000"),
    ("us_ssn", "SSN 078-05-1121", "SSN 078-05-1120"),
    ("br_cpf", "CPF 529.982.247-25", "CPF 529.982.247-26"),
    ("br_cnpj", "CNPJ 11.222.333/0001-81", "CNPJ 11.222.333/0001-82"),
    ("ca_sin", "SIN 130 692 544", "SIN 130 692 545"),
    ("in_aadhaar", "Aadhaar 2341 2341 2346", "Aadhaar 2341 2341 2347"),
    ("cn_resident_id", "11010519491231002X", "110105194912310021"),
    ("jp_my_number", "my number 123456789018", "my number 123456789019"),
    ("au_tfn", "TFN 123 456 782", "TFN 123 456 783"),
    ("es_dni", "12345678Z", "12345678A"),
    ("it_codice_fiscale", "RCCMNL83S18D969H", "RCCMNL83S18D969I"),
    ("de_tax_id", "Steuer-ID 36 574 261 809", "Steuer-ID 36 574 261 808"),
    ("uk_nino", "AB 12 34 56 C", "AB 12 34 56 E"),
    ("nl_bsn", "BSN 111222333", "BSN 111222334"),
    ("pl_pesel", "PESEL 44051401359", "PESEL 44051401358"),
    ("mx_curp", "HEGG560427MVZRRL04", "HEGG560427MVZRRL05"),
    ("mx_curp", "boxw310820hnerxn09", "boxw310820hnerxn08"),
    ("tr_kimlik", "T.C. Kimlik No: 10000000146", "T.C. Kimlik No: 10000000147"),
    ("tr_kimlik", "T.C. KİMLİK NO 17291716060", "17291716060"),
    ("za_id", "8001015009087", "8001015009086"),
    // Milliseconds since 1970, where nothing names it.
    ("za_id", "ID number 1704065009082", "1704065009082"),
    ("ar_cuit", "20-05536168-2", "20-05536168-3"),
    ("ar_cuit", "CUIT 20267565393", "CUIT 20267565392"),
    ("ru_inn", "ИНН 7707083893", "ИНН 7707083894"),
    ("ru_inn", "inn: 500100732259", "inn: 500100732258"),
    ("ru_snils", "112-233-445 95", "112-233-445 96"),
];

#[test]
fn examples_are_found_and_near_misses_are_not() {
    for (category, example, near_miss) in EXAMPLES {
        let config = format!(r#"{{"version":1,"detect":{{"pii":["{category}"]}}}}"#);
        let config: GuardConfig = serde_json::from_str(&config).unwrap();
        let guard = Guard::new(&[config]).unwrap().unwrap();
        for (text, is_value) in [(example, true), (near_miss, false)] {
            for text in [text.to_owned(), format!("It is {text}, I think."), format!("({text})")] {
                let report = guard.check_text(text.as_bytes(), &Entities::default(), &|| true);
                let found = report.unwrap().found.contains_key(category);
                assert_eq!(found, is_value, "{category}: {text}");
            }
        }
    }
}
