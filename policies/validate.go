package policies

import "fmt"

// Each object says by Validate what is wrong with its own fields, as far as that
// can be told without looking at others; Field is the path inside the object.
// Normalize gives the object as it is kept. Validate before normalizing: what
// normalization would hide (a control character at an end) is an error.

// Invalid is an [*InvalidError] with all errors of lists, or nil if there are none.
func Invalid(lists ...[]FieldError) error {
	var errs fieldErrors
	for _, list := range lists {
		errs.addAll("", list)
	}
	return errs.err()
}

// Validate reports what is wrong with a.
func (a Account) Validate() []FieldError {
	var errs fieldErrors
	checkID(&errs, "id", a.ID)
	errs.email("email", a.Email)
	errs.text("display_name", a.DisplayName)
	return errs.list
}

// Normalize is a as it is kept.
func (a Account) Normalize() Account {
	a.Email, a.DisplayName = NormalizeName(a.Email), NormalizeName(a.DisplayName)
	return a
}

// Validate reports what is wrong with g.
func (g Group) Validate() []FieldError {
	var errs fieldErrors
	checkID(&errs, "id", g.ID)
	errs.name("name", g.Name)
	if g.Parent != nil {
		checkID(&errs, "parent", *g.Parent)
		if *g.Parent == g.ID {
			errs.add("parent", "must not be the group itself")
		}
	}
	if !ValidColor(g.Color) {
		errs.add("color", "must be #rrggbb in hex digits")
	}
	return errs.list
}

// Normalize is g as it is kept.
func (g Group) Normalize() Group {
	g.Name = NormalizeName(g.Name)
	return g
}

// Validate reports what is wrong with e.
func (e Environment) Validate() []FieldError {
	var errs fieldErrors
	checkID(&errs, "id", e.ID)
	errs.name("name", e.Name)
	for i, g := range e.Groups {
		checkID(&errs, item("groups", i), g)
	}
	return errs.list
}

// Normalize is e as it is kept: groups are a set, sorted.
func (e Environment) Normalize() Environment {
	e.Name, e.Groups = NormalizeName(e.Name), sortedSet(e.Groups)
	return e
}

// Validate reports what is wrong with p as a custom policy. That its id is not
// reserved only a [CatalogueIndex] can tell.
func (p Policy) Validate() []FieldError {
	var errs fieldErrors
	checkID(&errs, "id", p.ID)
	errs.name("name", p.Name)
	errs.text("description", p.Description)
	errs.resourceTypes("resources", p.Resources)
	errs.actions("actions", p.Actions)
	return errs.list
}

// Normalize is p as it is kept: resources and actions are sets, sorted.
func (p Policy) Normalize() Policy {
	p.Name, p.Description = NormalizeName(p.Name), NormalizeName(p.Description)
	p.Resources, p.Actions = sortedSet(p.Resources), sortedSet(p.Actions)
	return p
}

// Validate reports what is wrong with r.
func (r Role) Validate() []FieldError {
	var errs fieldErrors
	checkID(&errs, "id", r.ID)
	errs.name("name", r.Name)
	errs.text("description", r.Description)
	for i, p := range r.Policies {
		checkID(&errs, item("policies", i), p)
	}
	return errs.list
}

// Normalize is r as it is kept: policies are a set, sorted.
func (r Role) Normalize() Role {
	r.Name, r.Description = NormalizeName(r.Name), NormalizeName(r.Description)
	r.Policies = sortedSet(r.Policies)
	return r
}

// Validate reports what is wrong with r.
func (r Resource) Validate() []FieldError {
	var errs fieldErrors
	if !r.Type.Valid() {
		errs.add("type", fmt.Sprintf("must be one of %v", ResourceTypes))
	}
	checkID(&errs, "id", r.ID)
	return errs.list
}

// Validate reports what is wrong with g, whose roles are ids.
func (g Grant) Validate() []FieldError {
	errs := g.validateRest()
	for i, id := range g.Roles {
		checkID(&errs, item("roles", i), id)
	}
	return errs.list
}

// validateRest is all but the forms of the roles, which may still be names.
func (g Grant) validateRest() fieldErrors {
	var errs fieldErrors
	errs.addAll("resource.", g.Resource.Validate())
	if len(g.Roles) == 0 {
		errs.add("roles", "must not be empty")
	}
	if t := g.ExpiresAt; t != nil {
		if y := t.UTC().Year(); y < MinExpiryYear || y > MaxExpiryYear {
			errs.add("expires_at", fmt.Sprintf("must lie in the years %d to %d", MinExpiryYear, MaxExpiryYear))
		}
	}
	return errs
}

// Normalize is g as it is kept: roles are a set, sorted; the end is cut to what
// the database holds.
func (g Grant) Normalize() Grant {
	g.Roles = sortedSet(g.Roles)
	if g.ExpiresAt != nil {
		t := NormalizeTime(*g.ExpiresAt)
		g.ExpiresAt = &t
	}
	return g
}
