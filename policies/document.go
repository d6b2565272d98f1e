package policies

import (
	"cmp"
	"slices"
)

// Document is an account document (api.md, Account document): one account with
// all that it shares. What `import` takes, `export` gives, and the worlds of the
// vectors are. Grants name roles by id; [DecodeDocument] resolves names.
type Document struct {
	Account      Account          `json:"account"`
	Groups       []Group          `json:"groups"`
	Environments []Environment    `json:"environments"`
	Policies     []Policy         `json:"policies"`
	Roles        []Role           `json:"roles"`
	Members      []DocumentMember `json:"members"`
}

// DocumentMember is one collaboration of the document's account. It has no id:
// import makes a new record or keeps the present one.
type DocumentMember struct {
	Account     DocumentAccount `json:"account"`
	DisplayName string          `json:"display_name"`
	Status      Status          `json:"status"` // never removed
	Grants      []Grant         `json:"grants"`
}

// DocumentAccount is the account that a collaboration concerns. ID is nil while
// no account has the address.
type DocumentAccount struct {
	ID          *AccountID `json:"id"`
	Email       string     `json:"email"`
	DisplayName string     `json:"display_name"`
}

// DefaultColor is the color of a group for which a document gives none.
const DefaultColor = "#808080"

// Normalize is d in canonical form, the one in which documents are compared and
// exported: every object normalized; groups after their parents and then by id;
// environments, policies and roles by id; members by account id and then by
// address, those without an account last; grants by type, in the order of
// [ResourceTypes], and id. No list is nil. It assumes that d is valid.
func (d Document) Normalize() Document {
	d.Account = d.Account.Normalize()
	d.Groups = sortGroups(normalizeAll(d.Groups, Group.Normalize))
	d.Environments = normalizeAll(d.Environments, Environment.Normalize)
	slices.SortFunc(d.Environments, func(a, b Environment) int { return cmp.Compare(a.ID, b.ID) })
	d.Policies = normalizeAll(d.Policies, Policy.Normalize)
	slices.SortFunc(d.Policies, func(a, b Policy) int { return cmp.Compare(a.ID, b.ID) })
	d.Roles = normalizeAll(d.Roles, Role.Normalize)
	slices.SortFunc(d.Roles, func(a, b Role) int { return cmp.Compare(a.ID, b.ID) })
	d.Members = normalizeAll(d.Members, DocumentMember.Normalize)
	slices.SortFunc(d.Members, compareMembers)
	return d
}

// Normalize is m in canonical form; see [Document.Normalize].
func (m DocumentMember) Normalize() DocumentMember {
	m.DisplayName = NormalizeName(m.DisplayName)
	m.Account.Email = NormalizeName(m.Account.Email)
	m.Account.DisplayName = NormalizeName(m.Account.DisplayName)
	m.Grants = normalizeAll(m.Grants, Grant.Normalize)
	slices.SortFunc(m.Grants, func(a, b Grant) int { return CompareResources(a.Resource, b.Resource) })
	return m
}

// CompareResources orders resources by type, in the order of [ResourceTypes],
// and then by id.
func CompareResources(a, b Resource) int {
	return cmp.Or(
		cmp.Compare(slices.Index(ResourceTypes, a.Type), slices.Index(ResourceTypes, b.Type)),
		cmp.Compare(a.ID, b.ID),
	)
}

func compareMembers(a, b DocumentMember) int {
	if (a.Account.ID == nil) != (b.Account.ID == nil) {
		if a.Account.ID == nil {
			return 1
		}
		return -1
	}
	if a.Account.ID != nil {
		if c := cmp.Compare(*a.Account.ID, *b.Account.ID); c != 0 {
			return c
		}
	}
	return cmp.Compare(EmailKey(a.Account.Email), EmailKey(b.Account.Email))
}

func normalizeAll[T any](list []T, normalize func(T) T) []T {
	out := make([]T, 0, len(list))
	for _, x := range list {
		out = append(out, normalize(x))
	}
	return out
}

// sortGroups orders groups so that parents come first: by depth, then by id.
func sortGroups(groups []Group) []Group {
	depth := groupDepths(groups)
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(depth[a.ID], depth[b.ID]), cmp.Compare(a.ID, b.ID))
	})
	return groups
}

// groupDepths is the depth of each group, 1 at the root; 0 for a group on a
// cycle or below one. A parent that is not among groups counts as a root.
// Linear in the number of groups.
func groupDepths(groups []Group) map[GroupID]int {
	children := make(map[GroupID][]GroupID)
	known := make(map[GroupID]bool, len(groups))
	for _, g := range groups {
		known[g.ID] = true
	}
	var level []GroupID
	for _, g := range groups {
		if g.Parent != nil && known[*g.Parent] {
			children[*g.Parent] = append(children[*g.Parent], g.ID)
		} else {
			level = append(level, g.ID)
		}
	}
	depth := make(map[GroupID]int, len(groups))
	for d := 1; len(level) > 0; d++ {
		var next []GroupID
		for _, id := range level {
			if depth[id] == 0 {
				depth[id] = d
				next = append(next, children[id]...)
			}
		}
		level = next
	}
	return depth
}
