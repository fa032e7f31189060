-- Timers of treasury look across users for positions to watch and for money that a decided question still reserves.
SET LOCAL ROLE swarm_owner;

CREATE POLICY treasury_timers ON positions FOR SELECT TO swarm_treasury USING (true);
CREATE POLICY treasury_timers ON reservations FOR SELECT TO swarm_treasury USING (true);
CREATE INDEX reservations_asked ON reservations (user_id, order_id) WHERE state = 'pending';
