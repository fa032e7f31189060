-- Roles belong to the whole server, so another database may have made them already, or make them at this moment.
-- `swarm_owner` owns every table and is nobody's login: row-level security is forced on it like on all others.
-- The other groups exist to be named by policies; the login role of a process is a member of the group of its name.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'swarm_owner', 'swarm_treasury', 'swarm_online_trading', 'swarm_dexter', 'swarm_supervisor', 'swarm_audit_verify'
    ] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', role_name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT pg_has_role(current_user, 'swarm_owner', 'MEMBER') THEN
        EXECUTE format('GRANT swarm_owner TO %I', current_user);
    END IF;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO swarm_owner;
