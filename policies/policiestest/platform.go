package policiestest

import (
	"iter"
	"maps"
	"slices"

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
		objects, err := doc.Objects()
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
