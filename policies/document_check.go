package policies

import (
	"fmt"
	"slices"
)

// checkDocument adds to errs all that is wrong with d, resolves the roles of its
// grants from names to ids in place, and holds policies against the catalogue
// unless that is nil. Once a field is reported nothing more is said of it.
func checkDocument(d *Document, catalogue *CatalogueIndex, errs *fieldErrors) {
	if !errs.seen["account"] {
		errs.addAll("account.", d.Account.Validate())
	}
	checkGroups(d, errs)
	checkEnvironments(d, errs)
	checkPolicies(d, catalogue, errs)
	checkRoles(d, catalogue, errs)
	checkMembers(d, errs)
}

func checkGroups(d *Document, errs *fieldErrors) {
	known := make(map[GroupID]bool, len(d.Groups))
	for i, g := range d.Groups {
		at := item("groups", i)
		errs.addAll(at+".", g.Validate())
		unique(errs, at+".id", known, g.ID)
	}
	type sibling struct {
		parent GroupID // empty at the root
		name   string
	}
	depth := groupDepths(d.Groups)
	names := make(map[sibling]bool, len(d.Groups))
	for i, g := range d.Groups {
		at := item("groups", i)
		if g.Parent != nil && !known[*g.Parent] {
			errs.add(at+".parent", quote(*g.Parent)+" is not a group of this document")
		}
		switch n := depth[g.ID]; {
		case n == 0:
			errs.add(at+".parent", "makes a cycle of groups")
		case n > MaxGroupDepth:
			errs.add(at+".parent", fmt.Sprintf("nests groups more than %d deep", MaxGroupDepth))
		}
		key := sibling{orDefault(g.Parent, ""), NameKey(g.Name)}
		if names[key] {
			errs.add(at+".name", "is the name of a sibling too (names are compared without case)")
		}
		names[key] = true
	}
}

func checkEnvironments(d *Document, errs *fieldErrors) {
	groups := groupSet(d)
	known := make(map[EnvironmentID]bool, len(d.Environments))
	for i, e := range d.Environments {
		at := item("environments", i)
		errs.addAll(at+".", e.Validate())
		unique(errs, at+".id", known, e.ID)
		for j, g := range e.Groups {
			if !groups[g] {
				errs.add(item(at+".groups", j), quote(g)+" is not a group of this document")
			}
		}
	}
}

func checkPolicies(d *Document, catalogue *CatalogueIndex, errs *fieldErrors) {
	known := make(map[PolicyID]bool, len(d.Policies))
	for i, p := range d.Policies {
		at := item("policies", i)
		errs.addAll(at+".", p.Validate())
		unique(errs, at+".id", known, p.ID)
		if catalogue != nil && catalogue.IsSystem(p.ID) {
			errs.add(at+".id", quote(p.ID)+" is reserved: it is a system policy's")
		}
	}
}

func checkRoles(d *Document, catalogue *CatalogueIndex, errs *fieldErrors) {
	custom := make(map[PolicyID]bool, len(d.Policies))
	for _, p := range d.Policies {
		custom[p.ID] = true
	}
	ids := make(map[RoleID]bool, len(d.Roles))
	for i, r := range d.Roles {
		unique(errs, item("roles", i)+".id", ids, r.ID)
	}
	names := make(map[string]bool, len(d.Roles))
	for i, r := range d.Roles {
		at := item("roles", i)
		errs.addAll(at+".", r.Validate())
		name := NormalizeName(r.Name)
		if id := RoleID(name); ids[id] && id != r.ID {
			errs.add(at+".name", "is another role's id")
		}
		if key := NameKey(name); names[key] {
			errs.add(at+".name", "is another role's name too (names are compared without case)")
		} else {
			names[key] = true
		}
		for j, id := range r.Policies {
			if catalogue != nil && !custom[id] && !catalogue.IsSystem(id) {
				errs.add(item(at+".policies", j), quote(id)+" is neither a system policy nor a policy of this document")
			}
		}
	}
}

func checkMembers(d *Document, errs *fieldErrors) {
	scope := newGrantScope(d)
	accounts := map[AccountID]bool{}
	emails := map[string]bool{}
	for i := range d.Members {
		m := &d.Members[i]
		at := item("members", i)
		if !errs.seen[at+".account"] {
			checkMemberAccount(d, m.Account, at+".account", accounts, emails, errs)
		}
		errs.text(at+".display_name", m.DisplayName)
		if !isDocumentStatus(m.Status) {
			errs.add(at+".status", fmt.Sprintf("must be one of %v", documentStatuses))
		}
		granted := make(map[Resource]bool, len(m.Grants))
		for j := range m.Grants {
			at := item(at+".grants", j)
			g := &m.Grants[j]
			if !errs.seen[at+".resource"] {
				if granted[g.Resource] {
					errs.add(at+".resource", fmt.Sprintf("has two grants on %s", g.Resource))
				}
				granted[g.Resource] = true
			}
			scope.check(g, at, errs)
		}
	}
}

func checkMemberAccount(d *Document, a DocumentAccount, at string, accounts map[AccountID]bool, emails map[string]bool, errs *fieldErrors) {
	if a.ID != nil {
		checkID(errs, at+".id", *a.ID)
		if *a.ID == d.Account.ID {
			errs.add(at+".id", "is the owner's: an account is not a member of itself")
		}
		unique(errs, at+".id", accounts, *a.ID)
	}
	errs.email(at+".email", a.Email)
	key := EmailKey(a.Email)
	if key == EmailKey(d.Account.Email) {
		errs.add(at+".email", "is the owner's: an account is not a member of itself")
	}
	unique(errs, at+".email", emails, key)
	errs.text(at+".display_name", a.DisplayName)
}

// documentStatuses are the statuses that a document may have: removed records
// are not in it.
var documentStatuses = []Status{
	StatusPending, StatusActive, StatusSuspended, StatusLeft, StatusRejected, StatusExpired,
}

func isDocumentStatus(s Status) bool {
	return slices.Contains(documentStatuses, s)
}

func groupSet(d *Document) map[GroupID]bool {
	groups := make(map[GroupID]bool, len(d.Groups))
	for _, g := range d.Groups {
		groups[g.ID] = true
	}
	return groups
}

// unique reports that key stands in seen already, else puts it there.
func unique[K comparable](errs *fieldErrors, field string, seen map[K]bool, key K) {
	if seen[key] {
		errs.add(field, "stands twice")
	}
	seen[key] = true
}
