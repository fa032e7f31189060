-- At kill level 4 the supervisor stops everybody once nobody holds anything any more, whoever it is.
SET LOCAL ROLE swarm_owner;

CREATE POLICY supervisor_reads ON positions FOR SELECT TO swarm_supervisor USING (true);
