//! The Valkey of a data folder: what it may take, who may log in, and what the one process that uses it is told.

use std::collections::BTreeMap;
use std::path::Path;

use servers::{StablePorts, ValkeyOptions, ValkeyServer, ValkeyUser};

use super::UpError;
use crate::keys::Keys;

/// The name under which its port is kept.
pub(crate) const PORT: &str = "valkey";
/// What its data may take, MiB: counters take some kB, the rest is a cache that lets go of old answers by itself.
const MAX_MEMORY_MIB: u32 = 64;
/// Who may log in besides the administrator, and what for; nobody reaches another's keys. Nothing that waits, watches,
/// configures or empties a server.
const LOGINS: [(&str, &str); 2] = [
    // Counters and caches.
    (
        llm_router::NAME,
        "~llm:* +@connection -client +client|setinfo +client|setname +get +mget +set +del +unlink +exists \
         +expire +pexpire +ttl +pttl +incrby +decrby +scan +dbsize +memory|usage +hget +hmget +hgetall +hset +hdel +hlen \
         +hincrby +zadd +zrem +zscore +zcard +zrange +zrangebyscore +zremrangebyscore +eval +evalsha +script|load \
         +script|exists",
    ),
    // The roster of agents: written whole, and what is written there read again by whoever looks after it.
    (
        supervisor::NAME,
        "~agents:* +@connection -client +client|setinfo +client|setname +multi +exec +del +expire +hset +zadd \
         +ttl +hget +hgetall +zrange +zscore",
    ),
];

/// How to start it.
pub(super) fn options(data_dir: &Path, ports: &mut StablePorts, keys: &Keys) -> Result<ValkeyOptions, UpError> {
    // For drills on the server itself; no process of the swarm gets this login.
    let admin = user(keys, "admin", "~* &* +@all")?;
    let mut users = vec![admin];
    for (name, rules) in LOGINS {
        users.push(user(keys, name, rules)?);
    }
    Ok(ValkeyOptions { folder: data_dir.join("valkey"), port: ports.get(PORT)?, users, max_memory_mib: MAX_MEMORY_MIB })
}

fn user(keys: &Keys, name: &str, rules: &str) -> Result<ValkeyUser, UpError> {
    let password = keys.password(&format!("valkey-{name}"))?;
    Ok(ValkeyUser { name: name.to_owned(), password, rules: rules.to_owned() })
}

/// What a process of [`LOGINS`] finds in its environment: where Valkey is, with a login that reaches its own keys alone.
pub(super) fn redis_env(
    valkey: &ValkeyServer,
    keys: &Keys,
    process: &str,
) -> Result<BTreeMap<String, String>, UpError> {
    let url = valkey.url(&user(keys, process, "")?);
    Ok(BTreeMap::from([("SWARM_REDIS_URL".to_owned(), url)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn each_process_gets_a_login_of_its_own_that_reaches_its_keys_alone() {
        let folder = testkit::servers::fresh_folder("up-valkey");
        let keys = Keys::open(&folder).unwrap();
        let mut ports = StablePorts::open(&folder.join("ports.json"));
        let options = options(&folder, &mut ports, &keys).unwrap();
        let server = ValkeyServer::start(&testkit::servers::programs(), &options).unwrap();
        let same_for_both = [
            ("SET other 1", "-NOPERM"),
            ("FLUSHALL", "-NOPERM"),
            ("KEYS *", "-NOPERM"),
            ("CONFIG GET dir", "-NOPERM"),
            ("CLIENT KILL TYPE normal", "-NOPERM"),
            ("ACL LIST", "-NOPERM"),
        ];
        let router = [
            ("SET llm:a 1 EX 60", "+OK"),
            ("EVAL \"#!lua flags=allow-oom\\nreturn redis.call('HSET', KEYS[1], 'a', 1)\" 1 llm:b", ":1"),
            ("HSET agents:registry monitor x", "-NOPERM"),
            ("HGETALL agents:registry", "-NOPERM"),
        ];
        let supervisor = [
            ("HSET agents:registry monitor x", ":1"),
            ("EXPIRE agents:registry 30", ":1"),
            ("ZADD agents:health 1 monitor", ":1"),
            ("DEL agents:registry agents:health", ":2"),
            ("MULTI", "+OK"),
            ("HSET llm:b a 2", "-NOPERM"),
            ("HGETALL llm:b", "-NOPERM"),
            ("DEL llm:a", "-NOPERM"),
            ("EVAL \"return 1\" 0", "-NOPERM"),
        ];
        for (process, own) in [("llm_router", router.as_slice()), ("supervisor", &supervisor)] {
            let env = redis_env(&server, &keys, process).unwrap();
            let password = keys.password(&format!("valkey-{process}")).unwrap();
            let url = format!("redis://{process}:{password}@127.0.0.1:{}/", ports.known("valkey").unwrap());
            assert_eq!(env, BTreeMap::from([("SWARM_REDIS_URL".to_owned(), url)]));
            for (line, wanted) in own.iter().chain(&same_for_both) {
                let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
                stream.write_all(format!("AUTH {process} {password}\r\n{line}\r\nQUIT\r\n").as_bytes()).unwrap();
                let mut told = String::new();
                stream.read_to_string(&mut told).unwrap();
                let is_as_wanted = told.lines().nth(1).is_some_and(|answer| answer.starts_with(wanted));
                assert!(is_as_wanted, "{process}: {line}: {told}");
            }
        }
    }
}
