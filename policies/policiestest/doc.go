// Package policiestest holds what tests of every room share: the vectors, random
// worlds and questions, and a reference model that answers them.
//
// The model is the independent reading of domain.md, The check, that the Rego,
// the engine, the sidecars and the bundles are held against. It is written from
// that page alone, as plainly as it can be, and as slowly: it looks through lists,
// keeps nothing, and knows nothing of data layouts or caches. Do not make it fast,
// and do not make it agree with the Rego by copying from it.
package policiestest
