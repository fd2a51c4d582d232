-- The gateway's own tables. A column says who writes it: most are the gateway's; the read model of workloads and the
-- invoices are written by sinks alone, from topics.

create table customers (
    customer_id uuid primary key,
    name text not null unique check (length(name) between 1 and 100),
    created_at timestamptz not null default now()
);

create table users (
    user_id uuid primary key,
    customer_id uuid not null references customers,
    email text not null unique check (email = lower(email) and length(email) between 3 and 200),
    kind text not null check (kind in ('person', 'service')),
    role text not null check (role in ('admin', 'customer')),
    password_hash text not null,
    is_disabled boolean not null default false,
    created_at timestamptz not null default now()
);
create index users_customer on users (customer_id);

create table quotas (
    customer_id uuid primary key references customers,
    concurrent_devices_max integer not null check (concurrent_devices_max >= 0),
    spend_usd_micros_per_day_max bigint not null check (spend_usd_micros_per_day_max >= 0)
);

create table facilities (
    facility_id text primary key,
    name text not null,
    energy_market text not null,
    power_cap_mw double precision not null check (power_cap_mw > 0)
);

-- One row a cluster: what is bought together. Single devices and what they do now are in TimescaleDB.
create table resources (
    cluster_id text primary key,
    facility_id text not null references facilities,
    device_class text not null,
    device_kind text not null check (device_kind in ('gpu', 'asic')),
    device_count integer not null check (device_count > 0)
);
create index resources_facility on resources (facility_id, device_class);

create table workloads (
    workload_id uuid primary key,
    customer_id uuid not null references customers,
    submitted_by uuid not null references users (user_id),
    name text not null,
    workload_type text not null check (workload_type in ('inference_real_time', 'inference_interactive', 'batch')),
    priority integer not null check (priority between 1 and 10),
    device_class text not null,
    device_count integer not null check (device_count > 0),
    requirements jsonb not null,
    reserved_usd_micros bigint not null check (reserved_usd_micros >= 0),
    created_at timestamptz not null,
    cancel_requested_at timestamptz,
    -- The read model: set by the insert, from then on written by the sink of workload.events and billing.usage alone.
    status text not null default 'created' check (status in ('created', 'queued', 'placed', 'starting', 'running',
        'preempting', 'preempted', 'completed', 'failed', 'cancelled')),
    status_reason text not null default '',
    facility_id text,
    queue_position integer,
    cost_usd_micros bigint not null default 0,
    device_seconds bigint not null default 0,
    started_at timestamptz,
    finished_at timestamptz,
    status_changed_at timestamptz,
    kafka_partition integer,
    kafka_offset bigint
);
create index workloads_customer on workloads (customer_id, created_at desc, workload_id desc);
create index workloads_all on workloads (created_at desc, workload_id desc);
create index workloads_priority on workloads (customer_id, priority desc, workload_id desc);
create index workloads_active on workloads (customer_id) where status not in ('completed', 'failed', 'cancelled');
create index workloads_finished on workloads (customer_id, finished_at) where finished_at is not null;

-- As old as the workload it made: the workload's id follows from the key, so a key never makes two.
create table idempotency_keys (
    customer_id uuid not null references customers,
    idempotency_key text not null check (length(idempotency_key) between 1 and 128),
    request_hash bytea not null,
    workload_id uuid not null references workloads,
    created_at timestamptz not null,
    primary key (customer_id, idempotency_key)
);

-- What the relay still owes Kafka, and for a day what it has paid. Never ordered by a remembered position: a row that
-- commits late has a low id.
create table outbox (
    outbox_id bigint generated always as identity primary key,
    topic text not null,
    record_key text not null,
    record bytea not null,
    trace_id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    published_at timestamptz
);
create index outbox_owed on outbox (outbox_id) where published_at is null;
create index outbox_paid on outbox (published_at) where published_at is not null;

create table invoices (
    invoice_id uuid primary key,
    customer_id uuid not null references customers,
    day date not null,
    amount_usd_micros bigint not null,
    issued_at timestamptz not null,
    unique (customer_id, day)
);

-- Each line proves itself: the record of billing.usage it was made from.
create table invoice_lines (
    invoice_id uuid not null references invoices,
    usage_id uuid not null,
    workload_id uuid not null,
    facility_id text not null,
    device_class text not null,
    interval_start timestamptz not null,
    interval_end timestamptz not null,
    device_seconds bigint not null,
    price_usd_micros_per_device_hour bigint not null,
    amount_usd_micros bigint not null,
    kafka_topic text not null,
    kafka_partition integer not null,
    kafka_offset bigint not null,
    primary key (invoice_id, usage_id)
);
create unique index invoice_lines_proof on invoice_lines (kafka_topic, kafka_partition, kafka_offset);

-- A session begins with a password; each refresh uses its token up and gives the next.
create table refresh_tokens (
    token_hash bytea primary key,
    session_id uuid not null,
    user_id uuid not null references users,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_tokens_session on refresh_tokens (session_id);
create index refresh_tokens_user on refresh_tokens (user_id);

-- Access tokens issued up to `revoked_at` to a session or to a user are void; kept until the last of them has expired.
create table revocations (
    revocation_id bigint generated always as identity primary key,
    subject uuid not null,
    revoked_at timestamptz not null default clock_timestamp()
);
create index revocations_at on revocations (revoked_at);
