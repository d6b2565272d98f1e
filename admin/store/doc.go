// Package store is usher's truth in PostgreSQL: who shares what with whom, and
// the log of every change.
//
// # One write path
//
// Every write is one transaction, and every transaction that changes something is
// one revision (an import: one for each document):
//
//	begin, READ COMMITTED ──▶ advisory lock ──▶ head, and all that the write reads
//	                                               │ decides; queues changes of rows,
//	                                               ▼ each with the objects it touches
//	        head + 1, revisions, changes, state rows, pg_notify, COMMIT: one round trip
//
// The lock is taken by the first statement, and everything is read after it: so
// writers decide one after the other on what is true, number order is commit order,
// and numbers have no gaps. A row can only be changed by [tx.change], which takes
// the touched objects as they were and as they will be: a forgotten log entry is
// not possible. A write that would change nothing is rolled back, and
// answers with the present revision.
//
// # When things fail
//
// A deadlock or a serialization failure is retried. COMMIT runs under a context of
// its own. If its outcome is unknown, because the connection broke, the transaction
// is looked up by the id that it wrote into the log, under the lock, so that it is
// over by then; only if that fails too the caller gets an [UnavailableError] with
// OutcomeUnknown. All other failures left nothing changed.
//
// A database that finds itself on another timeline or system identifier than the
// one recorded was restored or failed over: the next write, the next start or the
// listener begins a new epoch, with a revision of its own.
package store
