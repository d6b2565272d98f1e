package policiestest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/usher-authz/usher/policies"
)

// DocumentsPlatform is a platform that was made from documents alone, without a
// store: for tests of what reads a [policies.PlatformData]. It is immutable.
type DocumentsPlatform struct {
	revision policies.Revision
	policy   policies.PolicyInForce
	subjects []policies.AccountID
	owners   []policies.AccountID
	accounts map[policies.AccountID]*policies.AccountData
}

var _ policies.PlatformData = (*DocumentsPlatform)(nil)

// NewDocumentsPlatform puts documents together at a revision, under a policy.
func NewDocumentsPlatform(revision policies.Revision, policy policies.PolicyInForce, documents ...policies.Document) (*DocumentsPlatform, error) {
	p := &DocumentsPlatform{revision: revision, policy: policy, accounts: map[policies.AccountID]*policies.AccountData{}}
	subjects := map[policies.AccountID]bool{}
	for _, doc := range documents {
		subjects[doc.Account.ID] = true
		for _, m := range doc.Members {
			if m.Account.ID != nil {
				subjects[*m.Account.ID] = true
			}
		}
		objects, err := DocumentObjects(doc)
		if err != nil {
			return nil, err
		}
		data, err := policies.NewAccountData(doc.Account.ID, values(objects))
		if err != nil {
			return nil, err
		}
		p.accounts[doc.Account.ID] = data
	}
	p.subjects = slices.Sorted(maps.Keys(subjects))
	p.owners = slices.Sorted(maps.Keys(p.accounts))
	return p, nil
}

// DocumentObjects are the objects of a document, in the order of snapshots. The
// members get ids made of the owner's and their place.
func DocumentObjects(doc policies.Document) ([]policies.Object, error) {
	var all []policies.Object
	var failed error
	owner := doc.Account.ID
	add := func(kind policies.Kind, of policies.AccountID, id string, body any) {
		o, err := policies.NewObject(kind, of, id, body)
		if err != nil && failed == nil {
			failed = err
		}
		all = append(all, o)
	}
	add(policies.KindAccount, "", string(owner), policies.AccountBody{})
	for _, g := range doc.Groups {
		add(policies.KindGroup, owner, string(g.ID), policies.GroupBody{Parent: g.Parent})
	}
	for _, e := range doc.Environments {
		add(policies.KindEnvironment, owner, string(e.ID), policies.EnvironmentBody{Groups: e.Groups})
	}
	for _, p := range doc.Policies {
		add(policies.KindPolicy, owner, string(p.ID), policies.PolicyBody{Resources: p.Resources, Actions: p.Actions})
	}
	for _, r := range doc.Roles {
		add(policies.KindRole, owner, string(r.ID), policies.RoleBody{Name: r.Name, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts})
	}
	for i, m := range doc.Members {
		add(policies.KindMember, owner, memberID(owner, i), policies.MemberBody{Account: m.Account.ID, Status: m.Status})
	}
	for i, m := range doc.Members {
		for _, g := range m.Grants {
			key := policies.GrantKey{Member: policies.CollaborationID(memberID(owner, i)), Resource: g.Resource}
			add(policies.KindGrant, owner, key.String(), policies.GrantBody{Roles: g.Roles, ExpiresAt: g.ExpiresAt})
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("the objects of account %q: %w", owner, failed)
	}
	return all, nil
}

func memberID(owner policies.AccountID, i int) string {
	sum := sha256.Sum256([]byte(owner)) // the owner's id may be too long to add to
	return hex.EncodeToString(sum[:8]) + "-" + strconv.Itoa(i+1)
}

func values(objects []policies.Object) iter.Seq2[policies.Object, error] {
	return func(yield func(policies.Object, error) bool) {
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// Revision implements [policies.PlatformData].
func (p *DocumentsPlatform) Revision() policies.Revision { return p.revision }

// PlatformID implements [policies.PlatformData].
func (p *DocumentsPlatform) PlatformID() string { return "documents" }

// Policy implements [policies.PlatformData].
func (p *DocumentsPlatform) Policy() *policies.PolicyInForce { return &p.policy }

// Subjects implements [policies.PlatformData].
func (p *DocumentsPlatform) Subjects() iter.Seq[policies.AccountID] { return slices.Values(p.subjects) }

// Accounts implements [policies.PlatformData].
func (p *DocumentsPlatform) Accounts() iter.Seq2[policies.AccountID, *policies.AccountData] {
	return func(yield func(policies.AccountID, *policies.AccountData) bool) {
		for _, owner := range p.owners {
			if !yield(owner, p.accounts[owner]) {
				return
			}
		}
	}
}
