// Package jobs does what a change leaves to be done: it tells the other side by mail.
//
//	write ── Outbox.Post, same transaction ──▶ river_job ──▶ worker ──▶ mail.Sender
//	                                              ▲             │
//	                                              └── retried ──┘
//
// The queue is River's, in usher's database. A job is there exactly if the change was
// committed, and is done at least once: by one of the admin servers, again after a
// failure, later and later, and again if the process that did it was killed. After
// [maxAttempts] failures, or once an address is refused for good, a job is given up,
// and stays to be seen and retried (usher mail list, retry, discard).
//
// A job names who is to be told of what. Addresses, names and what is shared are read
// when it is done; the secret of an invitation's link is made then, so that it stands
// in no table and no log.
package jobs
