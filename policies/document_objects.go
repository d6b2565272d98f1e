package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// Objects are the objects of a document, in the order of snapshots: what decisions
// rest on, without a store. The members get ids made of the owner's and their place;
// their accounts are no part of it.
func (d Document) Objects() ([]Object, error) {
	b := objectBuilder{owner: d.Account.ID}
	owner, add := b.owner, b.add
	add(KindAccount, "", string(owner), AccountBody{})
	for _, g := range d.Groups {
		add(KindGroup, owner, string(g.ID), GroupBody{Parent: g.Parent})
	}
	for _, e := range d.Environments {
		add(KindEnvironment, owner, string(e.ID), EnvironmentBody{Groups: e.Groups})
	}
	for _, p := range d.Policies {
		add(KindPolicy, owner, string(p.ID), PolicyBody{Resources: p.Resources, Actions: p.Actions})
	}
	for _, r := range d.Roles {
		add(KindRole, owner, string(r.ID), RoleBody{Name: r.Name, Policies: r.Policies, ReceiveLoadAlerts: r.ReceiveLoadAlerts})
	}
	for i, m := range d.Members {
		add(KindMember, owner, documentMemberID(owner, i), MemberBody{Account: m.Account.ID, Status: m.Status})
	}
	for i, m := range d.Members {
		for _, g := range m.Grants {
			key := GrantKey{Member: CollaborationID(documentMemberID(owner, i)), Resource: g.Resource}
			add(KindGrant, owner, key.String(), GrantBody{Roles: g.Roles, ExpiresAt: g.ExpiresAt})
		}
	}
	return b.objects, b.err
}

func documentMemberID(owner AccountID, i int) string {
	sum := sha256.Sum256([]byte(owner)) // the owner's id may be too long to add to
	return hex.EncodeToString(sum[:8]) + "-" + strconv.Itoa(i+1)
}
