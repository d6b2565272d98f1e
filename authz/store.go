package authz

import (
	"context"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/usher-authz/usher/policies"
)

// viewStore is the storage.Store from which Rego reads data.usher, by path, out of
// the View of its transaction. It makes the small document that a reference asks
// for, and no other: nothing is copied into OPA's own store. (OPA: topdown reads a
// ground reference by one Read of its whole path, and takes an ast.Value as it is;
// a reference with a variable reads the part before the variable, and iterates.)
//
// Within one account every path can be read, so that `some role in accounts[o].roles`
// works. All subjects, owners or accounts at once cannot: a rule that walks the
// platform is a mistake, and an error here, not an empty answer.
type viewStore struct {
	storage.TriggersNotSupported
	storage.PolicyNotSupported
	storage.WritesNotSupported
}

var _ storage.Store = viewStore{}

// transaction carries the View that one evaluation reads.
type transaction struct{ view View }

// ID implements storage.Transaction; nobody tells transactions of ours apart.
func (transaction) ID() uint64 { return 0 }

// preparation is the transaction in which OPA prepares a query, and looks whether
// data stand where rules do. Nothing is there.
type preparation struct{}

// ID implements storage.Transaction.
func (preparation) ID() uint64 { return 0 }

// NewTransaction is called by OPA while it prepares a query; evaluations come with
// a transaction of their own.
func (viewStore) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return preparation{}, nil
}

// Commit has nothing to do.
func (viewStore) Commit(context.Context, storage.Transaction) error { return nil }

// Abort has nothing to do.
func (viewStore) Abort(context.Context, storage.Transaction) {}

// Truncate is not supported.
func (viewStore) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// errAbsent says that there is nothing at a path: to Rego, undefined.
var errAbsent = &storage.Error{Code: storage.NotFoundErr}

// Read gives the document at path as an ast.Value.
func (viewStore) Read(_ context.Context, txn storage.Transaction, path storage.Path) (any, error) {
	if _, ok := txn.(preparation); ok {
		return nil, errAbsent
	}
	t, ok := txn.(transaction)
	if !ok || t.view == nil {
		return nil, &storage.Error{Code: storage.InvalidTransactionErr, Message: "not a transaction over a view"}
	}
	if len(path) == 0 {
		return nil, wholesale(path)
	}
	if path[0] != "usher" {
		return nil, errAbsent
	}
	if len(path) == 1 {
		return nil, wholesale(path)
	}
	if recorded, ok := t.view.(*recordedView); ok {
		recorded.paths = append(recorded.paths, slices.Clone(path))
	}
	value, err := readUsher(t.view, path[1:])
	if err != nil {
		return nil, err
	}
	return value, nil
}

func wholesale(path storage.Path) error {
	return &storage.Error{Code: storage.InternalErr, Message: fmt.Sprintf("data%s cannot be read as a whole", path)}
}

func readUsher(view View, path storage.Path) (ast.Value, error) {
	switch path[0] {
	case "revision":
		return find(ast.Number(view.Revision().String()), path[1:])
	case "catalogue":
		return find(view.Policy().catalogue, path[1:])
	case "subjects":
		if len(path) < 2 {
			return nil, wholesale(path)
		}
		return present(view.Known(policies.AccountID(path[1])), path[2:])
	case "owners":
		if len(path) < 3 {
			return nil, wholesale(path)
		}
		owner, ok := view.OwnerOf(policies.Resource{Type: policies.ResourceType(path[1]), ID: path[2]})
		if !ok {
			return nil, errAbsent
		}
		return find(ast.String(owner), path[3:])
	case "accounts":
		if len(path) < 2 {
			return nil, wholesale(path)
		}
		account, ok := view.Account(policies.AccountID(path[1]))
		if !ok {
			return nil, errAbsent
		}
		return account.read(path[2:])
	default:
		return nil, errAbsent
	}
}

// find gives what stands at path within value.
func find(value ast.Value, path storage.Path) (ast.Value, error) {
	for _, name := range path {
		switch within := value.(type) {
		case ast.Object:
			term := within.Get(ast.StringTerm(name))
			if term == nil {
				return nil, errAbsent
			}
			value = term.Value
		case *ast.Array:
			var at int
			if _, err := fmt.Sscan(name, &at); err != nil || at < 0 || at >= within.Len() {
				return nil, errAbsent
			}
			value = within.Elem(at).Value
		default:
			return nil, errAbsent
		}
	}
	return value, nil
}

func present(ok bool, rest storage.Path) (ast.Value, error) {
	if !ok {
		return nil, errAbsent
	}
	return find(ast.Boolean(true), rest)
}

// read gives the document at path within data.usher.accounts[owner].
func (a *Account) read(path storage.Path) (ast.Value, error) {
	if len(path) == 0 {
		account := ast.NewObject()
		for _, name := range []string{"actions", "groups", "environments", "policies", "roles", "members"} {
			value, err := a.read(storage.Path{name})
			if err != nil {
				return nil, err
			}
			account.Insert(ast.StringTerm(name), ast.NewTerm(value))
		}
		return account, nil
	}
	switch name, rest := path[0], path[1:]; name {
	case "actions":
		return readTable(a.own().actions, rest, func(policies.ActionName, int) ast.Value { return ast.Boolean(true) })
	case "groups":
		return readTable(a.groups, rest, func(id policies.GroupID, _ text[policies.GroupID]) ast.Value {
			return ast.NewObject([2]*ast.Term{keyAncestors, texts(a.ancestors(id))})
		})
	case "environments":
		return readTable(a.environments, rest, func(_ policies.EnvironmentID, e *environment) ast.Value {
			return ast.NewObject([2]*ast.Term{keyGroups, texts(e.groups)})
		})
	case "policies":
		return readTable(a.own().policies, rest, func(_ policies.PolicyID, p *customPolicy) ast.Value {
			return policyValue(p.resources, p.actions)
		})
	case "roles":
		return readTable(a.roles, rest, func(_ policies.RoleID, r *role) ast.Value { return r.value() })
	case "members":
		return a.readMembers(rest)
	default:
		return nil, errAbsent
	}
}

// readMembers grinds a reference into a member down to one grant, since a member
// may have thousands.
func (a *Account) readMembers(path storage.Path) (ast.Value, error) {
	if len(path) == 0 {
		return readTable(a.subjects, nil, func(_ policies.AccountID, m *member) ast.Value { return a.memberValue(m) })
	}
	m, ok := a.subjects.get(policies.AccountID(path[0]))
	switch {
	case !ok:
		return nil, errAbsent
	case len(path) == 1:
		return a.memberValue(m), nil
	case path[1] == "status":
		return find(ast.String(m.mark.status()), path[2:])
	case path[1] == "id":
		return find(ast.String(m.id.string()), path[2:])
	case path[1] != "grants":
		return nil, errAbsent
	case len(path) < 4:
		return find(a.grantValues(m), path[2:])
	}
	g, ok := m.grants.get(a.ID(), policies.Resource{Type: policies.ResourceType(path[2]), ID: path[3]})
	if !ok {
		return nil, errAbsent
	}
	return find(g.value(), path[4:])
}

// readTable gives the document of one key, or of all.
func readTable[K ~string, V any](t table[K, V], path storage.Path, value func(K, V) ast.Value) (ast.Value, error) {
	if len(path) == 0 {
		object := ast.NewObject()
		for key, v := range t.all() {
			object.Insert(ast.StringTerm(string(key)), ast.NewTerm(value(key, v)))
		}
		return object, nil
	}
	key := K(path[0])
	v, ok := t.get(key)
	if !ok {
		return nil, errAbsent
	}
	return find(value(key, v), path[1:])
}

// The names of members of documents. Nobody writes to terms.
var (
	keyActions    = ast.StringTerm("actions")
	keyAncestors  = ast.StringTerm("ancestors")
	keyExpiresAt  = ast.StringTerm("expires_at")
	keyExpiresNS  = ast.StringTerm("expires_at_ns")
	keyGrants     = ast.StringTerm("grants")
	keyGroups     = ast.StringTerm("groups")
	keyID         = ast.StringTerm("id")
	keyLoadAlerts = ast.StringTerm("receive_load_alerts")
	keyName       = ast.StringTerm("name")
	keyPolicies   = ast.StringTerm("policies")
	keyResources  = ast.StringTerm("resources")
	keyRoles      = ast.StringTerm("roles")
	keyStatus     = ast.StringTerm("status")
)

func texts[S ~string](list []S) *ast.Term {
	terms := make([]*ast.Term, len(list))
	for i, s := range list {
		terms[i] = ast.StringTerm(string(s))
	}
	return ast.ArrayTerm(terms...)
}

// set is a set as data has it: an object whose values are true.
func set[S ~string](list []S) *ast.Term {
	pairs := make([][2]*ast.Term, len(list))
	for i, s := range list {
		pairs[i] = [2]*ast.Term{ast.StringTerm(string(s)), ast.InternedTerm(true)}
	}
	return ast.NewTerm(ast.NewObject(pairs...))
}

func policyValue(resources []policies.ResourceType, actions []policies.ActionName) ast.Value {
	return ast.NewObject([2]*ast.Term{keyResources, set(resources)}, [2]*ast.Term{keyActions, set(actions)})
}

func (r *role) value() ast.Value {
	return ast.NewObject(
		[2]*ast.Term{keyName, ast.StringTerm(r.name)},
		[2]*ast.Term{keyPolicies, texts(r.policies)},
		[2]*ast.Term{keyLoadAlerts, ast.InternedTerm(r.receiveLoadAlerts)},
	)
}

func (g *grant) value() ast.Value {
	if g.ends == nil {
		return ast.NewObject([2]*ast.Term{keyRoles, texts(g.roles)})
	}
	return ast.NewObject(
		[2]*ast.Term{keyRoles, texts(g.roles)},
		[2]*ast.Term{keyExpiresAt, ast.StringTerm(policies.FormatTime(*g.ends))},
		[2]*ast.Term{keyExpiresNS, ast.NewTerm(ast.Number(policies.ExpiryNS(*g.ends)))},
	)
}

func (a *Account) memberValue(m *member) ast.Value {
	return ast.NewObject(
		[2]*ast.Term{keyID, ast.StringTerm(string(m.id.string()))},
		[2]*ast.Term{keyStatus, ast.StringTerm(string(m.mark.status()))},
		[2]*ast.Term{keyGrants, ast.NewTerm(a.grantValues(m))},
	)
}

func (a *Account) grantValues(m *member) ast.Value {
	types := ast.NewObject()
	m.grants.each(a.ID(), func(r policies.Resource, g *grant) bool {
		kind := ast.StringTerm(string(r.Type))
		of := types.Get(kind)
		if of == nil {
			of = ast.NewTerm(ast.NewObject())
			types.Insert(kind, of)
		}
		if ids, ok := of.Value.(ast.Object); ok {
			ids.Insert(ast.StringTerm(r.ID), ast.NewTerm(g.value()))
		}
		return true
	})
	return types
}
