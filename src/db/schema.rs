//! The tables as diesel knows them, one description for both databases. A test holds it to what
//! the migrations make.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    change_sequence (id) {
        id -> Integer,
        value -> BigInt,
    }
}

table! {
    changes (sequence) {
        sequence -> BigInt,
        organization_id -> Nullable<Text>,
        changed_at -> Timestamp,
    }
}

table! {
    organizations (id) {
        id -> Text,
        name -> Text,
        status -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    workspaces (id) {
        id -> Text,
        organization_id -> Text,
        name -> Text,
        handle -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    own_responses (organization_id, workspace_id, upstream, response_id) {
        organization_id -> Text,
        workspace_id -> Text,
        upstream -> Text,
        response_id -> Text,
        created_at -> Timestamp,
        guarded_conversation -> Nullable<Text>,
    }
}

table! {
    users (id) {
        id -> Text,
        organization_id -> Text,
        email -> Text,
        name -> Text,
        status -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    data_keys (id) {
        id -> Text,
        organization_id -> Text,
        workspace_id -> Nullable<Text>,
        master_key_id -> Text,
        wrapped -> Binary,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

table! {
    secrets (id) {
        id -> Text,
        organization_id -> Text,
        workspace_id -> Nullable<Text>,
        data_key_id -> Text,
        name -> Text,
        description -> Nullable<Text>,
        version -> BigInt,
        sealed -> Binary,
        fingerprint -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

table! {
    provider_settings (id) {
        id -> Text,
        organization_id -> Text,
        workspace_id -> Nullable<Text>,
        provider -> Text,
        settings -> Json,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

table! {
    model_configurations (id) {
        id -> Text,
        organization_id -> Text,
        workspace_id -> Text,
        name -> Text,
        description -> Nullable<Text>,
        provider -> Text,
        base_url -> Text,
        model -> Text,
        api_key_name -> Nullable<Text>,
        auth -> Text,
        extra_headers -> Json,
        forward_headers -> Json,
        default_parameters -> Json,
        stream_usage -> Text,
        timeouts -> Json,
        max_concurrent_requests -> Nullable<BigInt>,
        enabled -> Bool,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
        price -> Nullable<Json>,
        context_window -> Nullable<BigInt>,
        max_output_tokens -> Nullable<BigInt>,
        oauth -> Nullable<Json>,
        strict_conversion -> Bool,
    }
}

table! {
    model_configuration_secrets (configuration_id, secret_id) {
        organization_id -> Text,
        workspace_id -> Text,
        configuration_id -> Text,
        secret_id -> Text,
    }
}

table! {
    api_keys (id) {
        id -> Text,
        organization_id -> Nullable<Text>,
        workspace_id -> Nullable<Text>,
        user_id -> Nullable<Text>,
        name -> Text,
        role -> Text,
        short_key -> Text,
        disabled -> Bool,
        expires_at -> Nullable<Timestamp>,
        created_by -> Nullable<Text>,
        last_used_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    api_key_credentials (lookup_id) {
        lookup_id -> Text,
        api_key_id -> Text,
        organization_id -> Nullable<Text>,
        secret_hash -> Text,
        expires_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
    }
}

table! {
    audit_events (id) {
        id -> Text,
        organization_id -> Nullable<Text>,
        workspace_id -> Nullable<Text>,
        actor_key_id -> Nullable<Text>,
        actor_user_id -> Nullable<Text>,
        actor_scope -> Text,
        operation -> Text,
        resource_type -> Text,
        resource_id -> Text,
        client_address -> Nullable<Text>,
        request_id -> Nullable<Text>,
        client_request_id -> Nullable<Text>,
        before -> Nullable<Json>,
        after -> Nullable<Json>,
        created_at -> Timestamp,
    }
}

table! {
    gateway_policies (id) {
        id -> Text,
        organization_id -> Text,
        name -> Text,
        description -> Nullable<Text>,
        policy_type -> Text,
        family -> Text,
        subject_matchers -> Json,
        matchers_key -> Text,
        config -> Json,
        action -> Text,
        enabled -> Bool,
        priority -> BigInt,
        created_by -> Nullable<Text>,
        is_system_generated -> Bool,
        parent_policy_id -> Nullable<Text>,
        detached -> Bool,
        epochs -> Json,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    model_prices (id) {
        id -> Text,
        organization_id -> Text,
        provider -> Text,
        model -> Text,
        price -> Json,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        deleted_at -> Nullable<Timestamp>,
    }
}

table! {
    ledger (id) {
        id -> Text,
        organization_id -> Text,
        workspace_id -> Text,
        request_id -> Text,
        attempt -> BigInt,
        api_key_id -> Text,
        user_id -> Nullable<Text>,
        configuration_id -> Text,
        configuration -> Text,
        route -> Text,
        model_asked -> Nullable<Text>,
        model -> Text,
        model_used -> Nullable<Text>,
        status -> Nullable<Integer>,
        outcome -> Text,
        code -> Nullable<Text>,
        tokens -> Text,
        usage_source -> Text,
        cost -> Nullable<BigInt>,
        price_version -> Nullable<Text>,
        first_byte_ms -> Nullable<BigInt>,
        duration_ms -> Nullable<BigInt>,
        policies -> Text,
        metadata -> Text,
        client_request_id -> Nullable<Text>,
        admitted_at -> Timestamp,
        list_cost -> Nullable<BigInt>,
        guard_findings -> Nullable<Text>,
    }
}

table! {
    ledger_retention (id) {
        id -> Integer,
        deleted_before -> Timestamp,
    }
}

table! {
    usage_rollups (organization_id, period, metadata_key, starts_at, metadata_value, workspace_id, user_id, api_key_id, configuration_id, model) {
        organization_id -> Text,
        period -> Text,
        metadata_key -> Text,
        starts_at -> Timestamp,
        metadata_value -> Text,
        workspace_id -> Text,
        user_id -> Text,
        api_key_id -> Text,
        configuration_id -> Text,
        model -> Text,
        requests -> BigInt,
        attempts -> BigInt,
        errors -> BigInt,
        blocks -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        cache_write_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        audio_input_tokens -> BigInt,
        audio_output_tokens -> BigInt,
        cost -> BigInt,
        unknown_costs -> BigInt,
        cache_write_1h_tokens -> BigInt,
        subscription_cost -> BigInt,
    }
}

table! {
    usage_metadata_keys (organization_id, hour, metadata_key) {
        organization_id -> Text,
        hour -> Timestamp,
        metadata_key -> Text,
        value_count -> BigInt,
    }
}

joinable!(model_configuration_secrets -> secrets (secret_id));
joinable!(model_configuration_secrets -> model_configurations (configuration_id));
joinable!(secrets -> data_keys (data_key_id));
joinable!(api_key_credentials -> api_keys (api_key_id));
allow_tables_to_appear_in_same_query!(
    organizations,
    workspaces,
    users,
    data_keys,
    secrets,
    model_configurations,
    model_configuration_secrets,
    api_keys,
    api_key_credentials,
);
