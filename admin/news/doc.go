// Package news tells members what the edits of others changed for them: a grant, a
// role, a custom policy, a group.
//
//	a write ──▶ untold change (owner, revision), in its transaction
//	                │  after the window, which begins with the first of them
//	                ▼
//	the owner's account before the first … as it is now ──▶ effective difference
//	                                                             │ by member
//	                                                             ▼
//	                                            one notice each ──▶ the queue of mails
//
// So a bundle of edits makes one mail, edits that come to nothing make none, and a
// write pays for one row, whatever it means and to how many. Only members that were
// active before and are active after are told: what is shared with others they are
// told by the mails of their own state, and see by the link of their invitation.
//
// The account as it was is made of the one in memory and of what the log says each
// object was before: this costs the account and the changes in the window, and not its
// history. What nobody decided, such as an import, ends a bundle and is in none.
//
// # Bounds
//
// An owner's news are looked at by one server at a time. A mail lists [maxItems]
// things. A bundle of more than [maxEntries] entries of the log, or that touches more
// than difference.DefaultLimit pairs of member and resource, is not compared: each
// active member is told that much has changed, without a list.
package news
