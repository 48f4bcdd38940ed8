-- They run with their owner's rights: by a trigger on a table of its own anybody could empty the totals.
-- Who may execute a trigger function matters when a trigger is created, not when it fires.
REVOKE EXECUTE ON FUNCTION follow_payments(), follow_daily_totals() FROM PUBLIC;
