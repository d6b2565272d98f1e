package policiestest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// Imports are w's documents as someone might send them: roles by id, name or
// name in another case, times in other zones, lists in another order, and what
// is the default often left out. Each decodes to w.Documents[i].
func (w World) Imports(d Dice) ([]jsontext.Value, error) {
	all := make([]jsontext.Value, len(w.Documents))
	for i, doc := range w.Documents {
		data, err := json.Marshal(importForm(d, doc))
		if err != nil {
			return nil, err
		}
		all[i] = data
	}
	return all, nil
}

type object map[string]any

// leaveOut drops members that have their default, each once in two times.
func (o object) leaveOut(d Dice, defaults object) object {
	for _, name := range slices.Sorted(maps.Keys(defaults)) { // dice must fall in the same order
		if o[name] == defaults[name] && chance(d, 2) {
			delete(o, name)
		}
	}
	return o
}

func importForm(d Dice, doc policies.Document) object {
	return object{
		"account": object{"id": doc.Account.ID, "email": doc.Account.Email, "display_name": doc.Account.DisplayName}.
			leaveOut(d, object{"display_name": ""}),
		"groups": objects(d, doc.Groups, func(g policies.Group) object {
			o := object{"id": g.ID, "name": g.Name, "parent": nil, "color": g.Color}
			if g.Parent != nil {
				o["parent"] = *g.Parent
			}
			return o.leaveOut(d, object{"parent": nil, "color": policies.DefaultColor})
		}),
		"environments": objects(d, doc.Environments, func(e policies.Environment) object {
			return object{"id": e.ID, "name": e.Name, "groups": shuffled(d, e.Groups)}
		}),
		"policies": objects(d, doc.Policies, func(p policies.Policy) object {
			return object{
				"id": p.ID, "name": p.Name, "description": p.Description,
				"resources": shuffled(d, p.Resources), "actions": shuffled(d, p.Actions),
			}.leaveOut(d, object{"description": ""})
		}),
		"roles": objects(d, doc.Roles, func(r policies.Role) object {
			return object{
				"id": r.ID, "name": r.Name, "description": r.Description,
				"policies": shuffled(d, r.Policies), "receive_load_alerts": r.ReceiveLoadAlerts,
			}.leaveOut(d, object{"description": "", "receive_load_alerts": false})
		}),
		"members": objects(d, doc.Members, func(m policies.DocumentMember) object {
			return object{
				"account": object{"id": m.Account.ID, "email": m.Account.Email, "display_name": m.Account.DisplayName}.
					leaveOut(d, object{"display_name": ""}),
				"display_name": m.DisplayName, "status": m.Status,
				"grants": objects(d, m.Grants, func(g policies.Grant) object { return grantForm(d, doc, g) }),
			}.leaveOut(d, object{"display_name": "", "status": policies.StatusActive})
		}),
	}
}

func grantForm(d Dice, doc policies.Document, g policies.Grant) object {
	o := object{"resource": g.Resource, "expires_at": nil}
	if t := g.ExpiresAt; t != nil {
		o["expires_at"] = policies.FormatTime(*t)
		if y := t.Year(); chance(d, 3) && y > 1970 && y < 9999 {
			o["expires_at"] = t.In(time.FixedZone("", 5*3600+1800)).Format(time.RFC3339Nano)
		}
	}
	var refs []string
	for _, id := range shuffled(d, g.Roles) {
		refs = append(refs, roleReference(d, doc, id))
		if chance(d, 10) {
			refs = append(refs, roleReference(d, doc, id)) // a set: twice is once
		}
	}
	o["roles"] = refs
	return o.leaveOut(d, object{"expires_at": nil})
}

func roleReference(d Dice, doc policies.Document, id policies.RoleID) string {
	role := find(doc.Roles, func(r policies.Role) bool { return r.ID == id })
	ref := string(id)
	switch d.Roll(4) {
	case 0, 1:
		ref = role.Name
	case 2:
		ref = strings.ToUpper(role.Name)
	}
	// A string is first an id: another role's would mean that one.
	other := find(doc.Roles, func(r policies.Role) bool { return string(r.ID) == ref && r.ID != id })
	if other != nil || policies.NameKey(ref) != policies.NameKey(role.Name) {
		return string(id)
	}
	return ref
}

func objects[T any](d Dice, list []T, form func(T) object) []object {
	all := []object{}
	for _, x := range shuffled(d, list) {
		all = append(all, form(x))
	}
	return all
}

func shuffled[T any](d Dice, list []T) []T {
	out := append([]T{}, list...)
	for i := len(out) - 1; i > 0; i-- {
		j := d.Roll(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}
