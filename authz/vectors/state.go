package vectors

import (
	"context"
	"fmt"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// State is a platform of documents alone, under a policy. The accounts of members are
// made where no document is theirs. The error is a document that contradicts another.
func State(ctx context.Context, policy *authz.Policy, documents []policies.Document) (*authz.State, error) {
	b := authz.NewBuilder(authz.Header{Platform: "documents", Revision: 1})
	b.Reuse(policy)
	inForce, err := policies.NewObject(policies.KindPolicyInForce, "", string(policies.KindPolicyInForce), policy.Source())
	if err != nil {
		return nil, err
	}
	objects := []policies.Object{inForce}
	known := map[policies.AccountID]bool{}
	for _, d := range documents {
		of, err := d.Objects()
		if err != nil {
			return nil, err
		}
		objects = append(objects, of...)
		known[d.Account.ID] = true
	}
	for _, d := range documents {
		for _, m := range d.Members {
			if id := m.Account.ID; id != nil && !known[*id] {
				known[*id] = true
				account, err := policies.NewObject(policies.KindAccount, "", string(*id), policies.AccountBody{})
				if err != nil {
					return nil, err
				}
				objects = append(objects, account)
			}
		}
	}
	for _, o := range objects {
		if err := b.Add(o); err != nil {
			return nil, fmt.Errorf("put the documents together: %w", err)
		}
	}
	state, err := b.Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("put the documents together: %w", err)
	}
	return state, nil
}
