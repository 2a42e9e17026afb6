//! Problem documents: the errors of the management plane.

use serde_json::Value;

use super::http::Answer;

/// Checks the form of a problem document and returns it.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    let mut fields: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let all = ["code", "detail", "errors", "request_id", "status", "title", "type"];
    assert_eq!(fields, all, "{problem}");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["type"], format!("urn:tollgate:problem:{code}"), "{problem}");
    assert!(!problem["title"].as_str().unwrap().is_empty(), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{problem}");
    assert!(answer.header("x-request-id").is_some());
    let named = problem["errors"].as_array().unwrap();
    assert_eq!(code == "invalid_fields", !named.is_empty(), "{problem}");
    problem
}

/// The fields that a 422 names, sorted.
#[track_caller]
pub(crate) fn wrong_fields(answer: &Answer) -> Vec<String> {
    let problem = problem(answer, 422, "invalid_fields");
    let errors = problem["errors"].as_array().unwrap().clone();
    let mut fields: Vec<String> = errors
        .iter()
        .map(|error| {
            assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
            assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
            error["field"].as_str().unwrap().to_owned()
        })
        .collect();
    fields.sort();
    fields
}
