package policies

// grantScope is what the grants of a document may point at and give.
type grantScope struct {
	owner     AccountID
	resources map[Resource]bool
	roles     RoleNames
}

func newGrantScope(d *Document) grantScope {
	s := grantScope{owner: d.Account.ID, resources: make(map[Resource]bool), roles: NewRoleNames(d.Roles)}
	for _, g := range d.Groups {
		s.resources[Resource{TypeGroup, string(g.ID)}] = true
	}
	for _, e := range d.Environments {
		s.resources[Resource{TypeEnvironment, string(e.ID)}] = true
	}
	for _, t := range ResourceTypes {
		if t.IsCategory() {
			s.resources[Resource{t, string(d.Account.ID)}] = true
		}
	}
	return s
}

// check adds what is wrong with the grant that stands at the path at, and
// resolves its roles.
func (s grantScope) check(g *Grant, at string, errs *fieldErrors) {
	rest := g.validateRest()
	for _, f := range rest.list {
		if f.Field == "roles" || !errs.seen[at+".resource"] || f.Field == "expires_at" {
			errs.add(at+"."+f.Field, f.Reason)
		}
	}
	if g.Resource.Type.Valid() && !s.resources[g.Resource] && !errs.seen[at+".resource"] {
		if g.Resource.Type.IsCategory() {
			errs.add(at+".resource.id", "must be the owner's id, "+quote(s.owner))
		} else {
			errs.add(at+".resource.id", quote(g.Resource.ID)+" is not of this document")
		}
	}
	for i, ref := range g.Roles {
		id, ok := s.roles.Resolve(string(ref))
		if !ok {
			errs.add(item(at+".roles", i), quote(ref)+" is neither the id nor the name of a role of this document")
			continue
		}
		g.Roles[i] = id
	}
}

// RoleNames finds the roles of one owner by id or name.
type RoleNames struct {
	ids   map[RoleID]bool
	names map[string]RoleID // by NameKey
}

// NewRoleNames makes the index of one owner's roles.
func NewRoleNames(roles []Role) RoleNames {
	n := RoleNames{make(map[RoleID]bool, len(roles)), make(map[string]RoleID, len(roles))}
	for _, r := range roles {
		n.ids[r.ID] = true
		n.names[NameKey(r.Name)] = r.ID
	}
	return n
}

// Resolve finds the role that ref means: first as an id, byte by byte, then as a
// name, without case (domain.md, Words).
func (n RoleNames) Resolve(ref string) (RoleID, bool) {
	if n.ids[RoleID(ref)] {
		return RoleID(ref), true
	}
	id, ok := n.names[NameKey(ref)]
	return id, ok
}
