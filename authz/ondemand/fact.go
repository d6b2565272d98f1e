package ondemand

import (
	"sync/atomic"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// kind is what a fact is about.
type kind uint8

const (
	// kindPermissions is what one account may do on one resource.
	kindPermissions kind = iota
	// kindOwner is whose an environment or a group is.
	kindOwner
	// kindSubject is whether an account exists. Of the categories and the account
	// itself it also tells the owner: their id is the owner's.
	kindSubject
	// kindAccount is an owner's account: all that it shares.
	kindAccount
	// kindStamp is that an owner's account was left alone: since when, without what
	// is in it. The admin's answer "unchanged" makes one, and with it entries that
	// are older than the notices we remember are good again.
	kindStamp
)

// kinds lists every kind, by its label in metrics.
var kinds = [...]string{kindPermissions: "permissions", kindOwner: "owner", kindSubject: "subject", kindAccount: "account", kindStamp: "stamp"}

// String is the label in metrics.
func (k kind) String() string { return kinds[k] }

// name names a fact within a platform, an epoch and a policy in force. Of
// kindPermissions it has all three ids, of kindOwner typ and id, of the others id.
type name struct {
	kind    kind
	typ     policies.ResourceType
	id      string
	subject policies.AccountID
}

func permissionsOf(subject policies.AccountID, r policies.Resource) name {
	return name{kind: kindPermissions, typ: r.Type, id: r.ID, subject: subject}
}

// ownerOf is the fact that tells whose r is.
func ownerOf(r policies.Resource) name {
	if r.Type.IsCategory() {
		return subjectOf(policies.AccountID(r.ID))
	}
	return name{kind: kindOwner, typ: r.Type, id: r.ID}
}

func subjectOf(a policies.AccountID) name { return name{kind: kindSubject, id: string(a)} }

func accountOf(a policies.AccountID) name { return name{kind: kindAccount, id: string(a)} }

func stampOf(a policies.AccountID) name { return name{kind: kindStamp, id: string(a)} }

// fact is something that was true at every revision of a range; only its end ever
// changes, and only grows, as it is found to hold at later ones. Everything else
// is immutable, and shared by all who read it.
type fact struct {
	name name
	from policies.Revision
	to   atomic.Uint64 // policies.Revision

	// exists is false where there is no such id.
	exists bool
	// owner of the resource, of kindOwner and kindPermissions.
	owner policies.AccountID
	// permissions of kindPermissions.
	permissions *authz.Permissions
	// account of kindAccount, nil where there is none.
	account *authz.Account
	// bytes is about what the fact holds in memory.
	bytes int
}

// newFact is a fact that holds at every revision of a range.
func newFact(n name, from, to policies.Revision) *fact {
	f := &fact{name: n, from: from}
	f.to.Store(uint64(to))
	return f
}

// until is the last revision at which f is known to hold.
func (f *fact) until() policies.Revision { return policies.Revision(f.to.Load()) }

// extend notes that f holds at r too, without a gap.
func (f *fact) extend(r policies.Revision) {
	for {
		have := f.to.Load()
		if have >= uint64(r) || f.to.CompareAndSwap(have, uint64(r)) {
			return
		}
	}
}

// factOverhead is about what a fact and its place in the cache take beside the
// bytes of its strings: the struct, the key, the cache's node.
const factOverhead = 320

// weight is about what f takes in memory, in bytes.
func (f *fact) weight() int {
	return factOverhead + 2*(len(f.name.id)+len(f.name.subject)) + len(f.owner) + f.bytes
}

// touchable is a name that notices bring: an account's state, an account's
// existence, an environment or a group.
type touchable struct {
	kind kind // kindAccount, kindSubject or kindOwner
	typ  policies.ResourceType
	id   string
}

// touchedBy gives the names of which a notice ends f's truth: at most three.
// A category's owner comes and goes with the account.
func (f *fact) touchedBy() (names [3]touchable, count int) {
	switch f.name.kind {
	case kindSubject:
		names[0] = touchable{kind: kindSubject, id: f.name.id}
		return names, 1
	case kindOwner:
		names[0] = touchable{kind: kindOwner, typ: f.name.typ, id: f.name.id}
		return names, 1
	case kindAccount, kindStamp:
		names[0] = touchable{kind: kindAccount, id: f.name.id}
		names[1] = touchable{kind: kindSubject, id: f.name.id}
		return names, 2
	case kindPermissions:
		names[0] = touchable{kind: kindAccount, id: string(f.owner)}
		names[1] = touchable{kind: kindSubject, id: string(f.name.subject)}
		if f.name.typ.IsCategory() {
			names[2] = touchable{kind: kindSubject, id: f.name.id}
		} else {
			names[2] = touchable{kind: kindOwner, typ: f.name.typ, id: f.name.id}
		}
		return names, 3
	}
	return names, 0
}

func (f *fact) setPermissions(p *authz.Permissions) {
	f.permissions, f.owner, f.bytes = p, p.Owner(), p.Size()
}

// accountWeight is what an account takes in memory for each byte of its objects as
// JSON. Measured on the standard platform (20 environments, 10 members, 50 grants):
// 10.6 KB of heap for 11 KB of JSON; permissions 707 bytes, weighed as 763; a subject
// 283, weighed as 350.
const accountWeight = 1

func (f *fact) setAccount(a *authz.Account, objectBytes int) {
	f.account, f.bytes = a, accountWeight*objectBytes
}
