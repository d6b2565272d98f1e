package authz

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// request is q as an AuthZEN request, without what came with it: all that effective
// and levels read.
func request(q *Question) ast.Value {
	return ast.NewObject(
		[2]*ast.Term{keySubject, ast.NewTerm(typedID(q.SubjectType, q.Subject))},
		[2]*ast.Term{keyResource, ast.NewTerm(typedID(q.ResourceType, q.ResourceID))},
		[2]*ast.Term{keyAction, ast.NewTerm(ast.NewObject([2]*ast.Term{keyName, ast.StringTerm(q.Action)}))},
	)
}

func typedID(kind, id string) ast.Value {
	return ast.NewObject([2]*ast.Term{keyType, ast.StringTerm(kind)}, [2]*ast.Term{keyID, ast.StringTerm(id)})
}

// wholeRequest is q as the AuthZEN request that it came as. The error is of a part that
// is no JSON.
func wholeRequest(q *Question) (ast.Value, error) {
	input, _ := request(q).(ast.Object)
	came := q.Request
	if came == nil {
		came = &Request{}
	}
	for _, part := range [...]struct {
		of    *ast.Term
		value jsontext.Value
	}{{keySubject, came.SubjectProperties}, {keyAction, came.ActionProperties}, {keyResource, came.ResourceProperties}} {
		if len(part.value) == 0 {
			continue
		}
		properties, err := valueOf(part.value)
		if err != nil {
			return nil, fmt.Errorf("the properties of the %s: %w", part.of.Value, err)
		}
		if of, ok := input.Get(part.of).Value.(ast.Object); ok {
			of.Insert(keyProperties, ast.NewTerm(properties))
		}
	}
	var context ast.Value = ast.NewObject()
	if len(came.Context) > 0 {
		var err error
		if context, err = valueOf(came.Context); err != nil {
			return nil, fmt.Errorf("the context: %w", err)
		}
	} else if !q.Explain {
		return input, nil
	}
	if of, ok := context.(ast.Object); ok && q.Explain {
		of.Insert(keyExplain, ast.InternedTerm(true))
	}
	input.Insert(keyContext, ast.NewTerm(context))
	return input, nil
}

func valueOf(raw jsontext.Value) (ast.Value, error) {
	var value any
	if err := util.UnmarshalJSON(raw, &value); err != nil {
		return nil, err
	}
	return ast.InterfaceToValue(value)
}

// The names of the request's members.
var (
	keyAction     = ast.StringTerm("action")
	keyContext    = ast.StringTerm("context")
	keyExplain    = ast.StringTerm("explain")
	keyProperties = ast.StringTerm("properties")
	keyResource   = ast.StringTerm("resource")
	keySubject    = ast.StringTerm("subject")
	keyType       = ast.StringTerm("type")
)
