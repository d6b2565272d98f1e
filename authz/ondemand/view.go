package ondemand

import (
	"fmt"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// partial is as much of the platform as one question needs, at the revision of
// root. When it is asked for anything else it keeps an error, and what was computed
// from it must not be used: not known here is not the same as not there.
type partial struct {
	root     *root
	subject  policies.AccountID
	resource policies.Resource
	// known and owned tell whether the subject and the resource exist.
	known, owned bool
	owner        policies.AccountID
	account      *authz.Account // of owner; nil unless known and owned
	// from is the revision since which all this is true.
	from policies.Revision
	err  error
}

var _ authz.View = (*partial)(nil)

// view is what q knows for t.
func (q *quest) view(t *task) *partial {
	v := &partial{root: q.root, subject: t.subject, resource: t.resource}
	if !t.subjectMay {
		return v
	}
	if permissions := q.fact(permissionsOf(t.subject, t.resource)); permissions != nil {
		v.known, v.owned, v.owner, v.from = true, true, permissions.owner, permissions.from
	} else {
		q.viewParts(t, v)
	}
	if !v.known || !v.owned {
		return v
	}
	if account := q.fact(accountOf(v.owner)); account != nil && account.exists {
		v.account, v.from = account.account, max(v.from, account.from)
	}
	return v
}

// viewParts fills in v from the facts about the subject and the resource.
func (q *quest) viewParts(t *task, v *partial) {
	subject := q.fact(subjectOf(t.subject))
	if subject == nil {
		v.miss("the account", string(t.subject))
		return
	}
	v.known, v.from = subject.exists, subject.from
	if !t.resourceMay {
		return
	}
	owner := q.fact(ownerOf(t.resource))
	if owner == nil {
		v.miss("the resource", t.resource.String())
		return
	}
	v.from = max(v.from, owner.from)
	if v.owned = owner.exists; v.owned {
		v.owner = ownerID(t.resource, owner)
	}
}

// Revision implements [authz.View].
func (v *partial) Revision() policies.Revision { return v.root.revision }

// Policy implements [authz.View].
func (v *partial) Policy() *authz.Policy { return v.root.generation.policy }

// Known implements [authz.View].
func (v *partial) Known(account policies.AccountID) bool {
	if account != v.subject {
		v.miss("the account", string(account))
	}
	return v.known
}

// OwnerOf implements [authz.View].
func (v *partial) OwnerOf(resource policies.Resource) (policies.AccountID, bool) {
	if resource != v.resource {
		v.miss("the resource", resource.String())
	}
	return v.owner, v.owned
}

// Account implements [authz.View].
func (v *partial) Account(owner policies.AccountID) (*authz.Account, bool) {
	if owner != v.owner || v.account == nil {
		v.miss("the state of account", string(owner))
		return nil, false
	}
	return v.account, true
}

func (v *partial) miss(what, id string) {
	if v.err == nil {
		v.err = fmt.Errorf("%s %q is needed, and was not fetched", what, id)
	}
}

// catalogueView is for decisions that need nothing but permissions and the
// catalogue.
type catalogueView struct{ root *root }

var _ authz.View = catalogueView{}

// Revision implements [authz.View].
func (v catalogueView) Revision() policies.Revision { return v.root.revision }

// Policy implements [authz.View].
func (v catalogueView) Policy() *authz.Policy { return v.root.generation.policy }

// Known implements [authz.View]; it is not asked.
func (v catalogueView) Known(policies.AccountID) bool { return false }

// OwnerOf implements [authz.View]; it is not asked.
func (v catalogueView) OwnerOf(policies.Resource) (policies.AccountID, bool) { return "", false }

// Account implements [authz.View]; it is not asked.
func (v catalogueView) Account(policies.AccountID) (*authz.Account, bool) { return nil, false }
