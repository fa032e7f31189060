//! The Valkey of a data folder: what it may take, who may log in, and what the one process that uses it is told.

use std::collections::BTreeMap;
use std::path::Path;

use servers::{StablePorts, ValkeyOptions, ValkeyServer, ValkeyUser};

use super::UpError;
use crate::keys::Keys;

/// The one process that is given a login.
pub(super) const READER: &str = llm_router::NAME;
/// The name under which its port is kept.
pub(crate) const PORT: &str = "valkey";
/// What its data may take, MiB: counters take some kB, the rest is a cache that lets go of old answers by itself.
const MAX_MEMORY_MIB: u32 = 64;
/// What the router does: counters and caches under one prefix. Nothing that waits, watches, configures or empties a server.
const READER_RULES: &str = "~llm:* +@connection -client +client|setinfo +client|setname +get +mget +set +del +unlink +exists \
    +expire +pexpire +ttl +pttl +incrby +decrby +scan +dbsize +memory|usage +hget +hmget +hgetall +hset +hdel +hlen +hincrby \
    +zadd +zrem +zscore +zcard +zrange +zrangebyscore +zremrangebyscore +eval +evalsha +script|load +script|exists";

/// How to start it.
pub(super) fn options(data_dir: &Path, ports: &mut StablePorts, keys: &Keys) -> Result<ValkeyOptions, UpError> {
    // For drills on the server itself; no process of the swarm gets this login.
    let admin = user(keys, "admin", "~* &* +@all")?;
    let users = vec![admin, user(keys, READER, READER_RULES)?];
    Ok(ValkeyOptions { folder: data_dir.join("valkey"), port: ports.get(PORT)?, users, max_memory_mib: MAX_MEMORY_MIB })
}

fn user(keys: &Keys, name: &str, rules: &str) -> Result<ValkeyUser, UpError> {
    let password = keys.password(&format!("valkey-{name}"))?;
    Ok(ValkeyUser { name: name.to_owned(), password, rules: rules.to_owned() })
}

/// What [`READER`] finds in its environment: where Valkey is, with a login that reaches `llm:*` alone.
pub(super) fn redis_env(valkey: &ValkeyServer, keys: &Keys) -> Result<BTreeMap<String, String>, UpError> {
    let url = valkey.url(&user(keys, READER, READER_RULES)?);
    Ok(BTreeMap::from([("SWARM_REDIS_URL".to_owned(), url)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_router_gets_a_login_of_its_own_that_reaches_its_keys_alone() {
        let folder = testkit::servers::fresh_folder("up-valkey");
        let keys = Keys::open(&folder).unwrap();
        let mut ports = StablePorts::open(&folder.join("ports.json"));
        let options = options(&folder, &mut ports, &keys).unwrap();
        let server = ValkeyServer::start(&testkit::servers::programs(), &options).unwrap();
        let env = redis_env(&server, &keys).unwrap();
        let password = keys.password("valkey-llm_router").unwrap();
        let url = format!("redis://llm_router:{password}@127.0.0.1:{}/", ports.known("valkey").unwrap());
        assert_eq!(env, BTreeMap::from([("SWARM_REDIS_URL".to_owned(), url)]));
        for (line, wanted) in [
            ("SET llm:a 1 EX 60", "+OK"),
            ("EVAL \"#!lua flags=allow-oom\\nreturn redis.call('HSET', KEYS[1], 'a', 1)\" 1 llm:b", ":1"),
            ("SET other 1", "-NOPERM"),
            ("FLUSHALL", "-NOPERM"),
            ("KEYS *", "-NOPERM"),
            ("CONFIG GET dir", "-NOPERM"),
            ("CLIENT KILL TYPE normal", "-NOPERM"),
            ("ACL LIST", "-NOPERM"),
        ] {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
            stream.write_all(format!("AUTH llm_router {password}\r\n{line}\r\nQUIT\r\n").as_bytes()).unwrap();
            let mut told = String::new();
            stream.read_to_string(&mut told).unwrap();
            assert!(told.lines().nth(1).is_some_and(|answer| answer.starts_with(wanted)), "{line}: {told}");
        }
    }
}
