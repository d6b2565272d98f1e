package policies

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

// NewAccountData makes the data of one owner from its objects, in any order.
// Objects of other kinds than an owner has are an error, and so is what the
// domain forbids: a cycle of groups, or two live records of one account.
func NewAccountData(owner AccountID, objects iter.Seq2[Object, error]) (*AccountData, error) {
	b := dataBuilder{
		data: AccountData{
			Actions:      make(Set[ActionName]),
			Groups:       make(map[GroupID]GroupData),
			Environments: make(map[EnvironmentID]EnvironmentData),
			Policies:     make(map[PolicyID]PolicyData),
			Roles:        make(map[RoleID]RoleData),
			Members:      make(map[AccountID]MemberData),
		},
		parents: make(map[GroupID]*GroupID),
		grants:  make(map[CollaborationID]map[ResourceType]map[string]GrantData),
	}
	for o, err := range objects {
		if err != nil {
			return nil, err
		}
		if err := b.add(o); err != nil {
			return nil, fmt.Errorf("object %s %q of owner %q: %w", o.Kind, o.ID, owner, err)
		}
	}
	if err := b.finish(); err != nil {
		return nil, fmt.Errorf("account %q: %w", owner, err)
	}
	return &b.data, nil
}

type dataBuilder struct {
	data    AccountData
	parents map[GroupID]*GroupID
	grants  map[CollaborationID]map[ResourceType]map[string]GrantData
}

func (b *dataBuilder) add(o Object) error {
	if o.Deleted() {
		return nil
	}
	switch o.Kind {
	case KindAccount:
		return nil
	case KindGroup:
		body, err := ReadGroupBody(string(o.Body))
		b.parents[GroupID(o.ID)] = body.Parent
		return err
	case KindEnvironment:
		body, err := ReadEnvironmentBody(string(o.Body))
		b.data.Environments[EnvironmentID(o.ID)] = EnvironmentData(body)
		return err
	case KindPolicy:
		var body PolicyBody
		err := json.Unmarshal(o.Body, &body)
		b.data.Policies[PolicyID(o.ID)] = NewPolicyData(body.Resources, body.Actions)
		for _, a := range body.Actions {
			b.data.Actions[a] = true
		}
		return err
	case KindRole:
		body, err := ReadRoleBody(string(o.Body))
		b.data.Roles[RoleID(o.ID)] = RoleData(body)
		return err
	case KindMember:
		body, err := ReadMemberBody(string(o.Body))
		if err != nil {
			return err
		}
		return b.addMember(CollaborationID(o.ID), body)
	case KindGrant:
		key, err := ParseGrantKey(o.ID)
		if err != nil {
			return err
		}
		body, err := ReadGrantBody(string(o.Body))
		b.addGrant(key, NewGrantData(body.Roles, body.ExpiresAt))
		return err
	case KindPolicyInForce, KindToken:
	}
	return fmt.Errorf("does not belong to an account")
}

// addMember keeps the one record of an account that counts: the live one if
// there is one beside removed ones.
func (b *dataBuilder) addMember(id CollaborationID, body MemberBody) error {
	if body.Account == nil {
		return nil
	}
	m := MemberData{ID: id, Status: body.Status}
	if other, ok := b.data.Members[*body.Account]; ok {
		switch {
		case m.Status == StatusRemoved && other.Status == StatusRemoved:
			m.ID = max(m.ID, other.ID) // any, but always the same
		case m.Status == StatusRemoved:
			return nil
		case other.Status != StatusRemoved:
			return fmt.Errorf("account %q has another live record, %q", *body.Account, other.ID)
		}
	}
	b.data.Members[*body.Account] = m
	return nil
}

func (b *dataBuilder) addGrant(key GrantKey, g GrantData) {
	types := b.grants[key.Member]
	if types == nil {
		types = make(map[ResourceType]map[string]GrantData)
		b.grants[key.Member] = types
	}
	if types[key.Resource.Type] == nil {
		types[key.Resource.Type] = make(map[string]GrantData)
	}
	types[key.Resource.Type][key.Resource.ID] = g
}

func (b *dataBuilder) finish() error {
	for id := range b.parents {
		ancestors := make([]GroupID, 0)
		for up := b.parents[id]; up != nil; up = b.parents[*up] {
			if len(ancestors) >= MaxGroupDepth {
				return fmt.Errorf("group %q is nested more than %d deep, or in a cycle", id, MaxGroupDepth)
			}
			if _, ok := b.parents[*up]; !ok {
				return fmt.Errorf("group %q is below %q, which does not exist", id, *up)
			}
			ancestors = append(ancestors, *up)
		}
		b.data.Groups[id] = GroupData{Ancestors: ancestors}
	}
	for account, m := range b.data.Members {
		m.Grants = make(map[ResourceType]map[string]GrantData)
		if m.Status != StatusRemoved {
			maps.Copy(m.Grants, b.grants[m.ID])
		}
		b.data.Members[account] = m
	}
	return nil
}

// Objects is the inverse of [NewAccountData]: the objects of the owner, the
// account's own first, then groups (parents first), environments, policies,
// roles, members and grants, each kind by id.
func (d *AccountData) Objects(owner AccountID) ([]Object, error) {
	b := objectBuilder{owner: owner}
	b.add(KindAccount, "", string(owner), AccountBody{})
	groups := slices.SortedFunc(maps.Keys(d.Groups), func(x, y GroupID) int {
		return cmp.Or(cmp.Compare(len(d.Groups[x].Ancestors), len(d.Groups[y].Ancestors)), cmp.Compare(x, y))
	})
	for _, id := range groups {
		var body GroupBody
		if up := d.Groups[id].Ancestors; len(up) > 0 {
			body.Parent = &up[0]
		}
		b.add(KindGroup, owner, string(id), body)
	}
	for _, id := range slices.Sorted(maps.Keys(d.Environments)) {
		b.add(KindEnvironment, owner, string(id), EnvironmentBody(d.Environments[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(d.Policies)) {
		p := d.Policies[id]
		b.add(KindPolicy, owner, string(id), PolicyBody{
			Resources: slices.Sorted(maps.Keys(p.Resources)), Actions: slices.Sorted(maps.Keys(p.Actions)),
		})
	}
	for _, id := range slices.Sorted(maps.Keys(d.Roles)) {
		b.add(KindRole, owner, string(id), RoleBody(d.Roles[id]))
	}
	b.addMembers(d.Members)
	return b.objects, b.err
}

type objectBuilder struct {
	owner   AccountID
	objects []Object
	err     error
}

func (b *objectBuilder) add(kind Kind, owner AccountID, id string, body any) {
	o, err := NewObject(kind, owner, id, body)
	b.err = firstError(b.err, err)
	b.objects = append(b.objects, o)
}

func (b *objectBuilder) addMembers(members map[AccountID]MemberData) {
	accounts := slices.SortedFunc(maps.Keys(members), func(x, y AccountID) int {
		return cmp.Compare(members[x].ID, members[y].ID)
	})
	for _, account := range accounts {
		m := members[account]
		b.add(KindMember, b.owner, string(m.ID), MemberBody{Account: &account, Status: m.Status})
	}
	for _, account := range accounts {
		m := members[account]
		for _, t := range ResourceTypes {
			for _, id := range slices.Sorted(maps.Keys(m.Grants[t])) {
				b.addGrant(GrantKey{m.ID, Resource{t, id}}, m.Grants[t][id])
			}
		}
	}
}

func (b *objectBuilder) addGrant(key GrantKey, g GrantData) {
	body := GrantBody{Roles: g.Roles}
	if g.ExpiresAt != "" {
		var t time.Time
		if err := t.UnmarshalText([]byte(g.ExpiresAt)); err != nil {
			b.err = firstError(b.err, fmt.Errorf("grant %s: %w", key, err))
		}
		body.ExpiresAt = &t
	}
	b.add(KindGrant, b.owner, key.String(), body)
}
