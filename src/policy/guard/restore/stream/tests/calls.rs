//! Arguments of calls of tools in streams.

use super::*;

#[test]
fn arguments_are_escaped_as_json_in_json() {
    let ([password, email], _) = placeholders();
    let (head, tail) = password.split_at(7);
    let piece = |text: &str| {
        let call = json!({"index":0,"function":{"arguments":text}});
        ("", json!({"choices":[{"index":0,"delta":{"tool_calls":[call]}}]}).to_string())
    };
    let sent = events(
        Format::Chat,
        &[
            piece("{\"p"),
            piece("\":\""),
            piece(head),
            piece(tail),
            piece("\",\"q\":"),
            piece(&format!("\"{email}\"}}")),
        ],
    );
    let arguments: String = sent
        .iter()
        .map(|data| {
            let data: Value = serde_json::from_str(data).unwrap();
            let piece = &data["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
            piece.as_str().unwrap().to_owned()
        })
        .collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments, json!({"p": VALUES[0], "q": VALUES[1]}));
}

#[test]
fn json_in_json_in_arguments_is_escaped_twice() {
    let ([password, email], _) = placeholders();
    let inner = json!({"p": password, "to": [email]}).to_string();
    let text = json!({"body": inner}).to_string();
    let piece = |text: char| {
        let call = json!({"index":0,"function":{"arguments":text.to_string()}});
        ("", json!({"choices":[{"index":0,"delta":{"tool_calls":[call]}}]}).to_string())
    };
    let sent = events(Format::Chat, &text.chars().map(piece).collect::<Vec<_>>());
    let arguments = sent.iter().map(|data| {
        let data: Value = serde_json::from_str(data).unwrap();
        let piece = &data["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
        piece.as_str().unwrap().to_owned()
    });
    let outer: Value = serde_json::from_str(&arguments.collect::<String>()).unwrap();
    let inner: Value = serde_json::from_str(outer["body"].as_str().unwrap()).unwrap();
    assert_eq!(inner, json!({"p": VALUES[0], "to": [VALUES[1]]}));
}

#[test]
fn a_call_may_have_another_id_in_each_piece() {
    let ([_, email], _) = placeholders();
    let (head, tail) = email.split_at(6);
    let piece = |id: &str, function: Value| {
        let call = json!({"index":0,"id":id,"function":function});
        ("", json!({"choices":[{"index":0,"delta":{"tool_calls":[call]}}]}).to_string())
    };
    let sent = events(
        Format::Chat,
        &[
            piece("a", json!({"name":"f","arguments":format!("{{\"to\":\"{head}")})),
            piece("b", json!({"arguments":tail})),
            piece("c", json!({"name":null,"arguments":"\"}"})),
        ],
    );
    let arguments = sent.iter().map(|data| {
        let data: Value = serde_json::from_str(data).unwrap();
        let piece = &data["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
        piece.as_str().unwrap().to_owned()
    });
    let arguments: Value = serde_json::from_str(&arguments.collect::<String>()).unwrap();
    assert_eq!(arguments, json!({"to": VALUES[1]}));
}

#[test]
fn calls_of_tools_may_all_have_the_same_number() {
    let call = |id: &str, arguments: &str| {
        let name = if id.is_empty() { "" } else { "f" };
        let call = json!({"index":0,"id":id,"function":{"name":name,"arguments":arguments}});
        json!({"choices":[{"index":0,"delta":{"tool_calls":[call]}}]}).to_string()
    };
    let end = json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}).to_string();
    let edits = AnswerEdits::new(Placeholders::default(), Some(scan("redact")));
    let mut restorer = StreamRestorer::new(Format::Chat, edits);
    let mut pieces = Vec::new();
    for data in [call("a", "{\"x\":"), call("a", "1}"), call("b", "{}"), call("", ""), end] {
        let RestoredEvent { before, data: new } = restorer.event("", data.as_bytes());
        let new = new.unwrap_or_else(|| data.into_bytes());
        for data in before.into_iter().map(|extra| extra.data).chain([new]) {
            let data: Value = serde_json::from_slice(&data).unwrap();
            let call = &data["choices"][0]["delta"]["tool_calls"][0];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            pieces.push((text(&call["id"]), text(&call["function"]["arguments"])));
        }
    }
    let of = |id: &str, arguments: &str| (id.to_owned(), arguments.to_owned());
    let expected = [
        of("a", ""),
        of("a", ""),
        of("", "{\"x\":1}"),
        of("b", ""),
        of("", ""),
        of("", "{}"),
        of("", ""),
    ];
    assert_eq!(pieces, expected);
}
