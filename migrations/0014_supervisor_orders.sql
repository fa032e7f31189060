-- The supervisor restarts nobody as planned while an order is open, whoever's it is.
SET LOCAL ROLE swarm_owner;

CREATE POLICY supervisor_reads ON orders FOR SELECT TO swarm_supervisor USING (true);
