package kube

import (
	"bytes"
	"encoding/binary"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Most of a Pod or Node is of no interest to a network, and decoding it costs several times what the rest does. So
// objects of these kinds lose the fields that wanted does not name before they are decoded, and arrive without them.
//
// fields are those of a protobuf message that are kept, by number (generated.proto of the API); nil below one: all of it.
type fields map[uint64]fields

var (
	metadata = fields{
		1: nil, 3: nil, 5: nil, 6: nil, 7: nil, 8: nil, 9: nil, 11: nil, 12: nil, // name, namespace, uid, resourceVersion, generation, creation, deletion, labels, annotations
	}
	container = fields{1: nil, 6: nil, 24: nil} // name, ports, restartPolicy
	wanted    = map[string]fields{
		"Pod": {
			1: metadata,
			2: {2: container, 20: container, 10: nil, 11: nil}, // containers, initContainers, nodeName, hostNetwork
			3: {1: nil, 5: nil, 6: nil, 12: nil, 16: nil},      // phase, hostIP, podIP, podIPs, hostIPs
		},
		"Node": {
			1: metadata,
			2: {1: nil, 7: nil}, // podCIDR, podCIDRs
			3: {4: nil, 5: nil}, // conditions, addresses
		},
		"Namespace":     {1: metadata},
		"NetworkPolicy": {1: metadata, 2: nil},
	}
)

func init() {
	for _, kind := range []string{"Pod", "Node", "Namespace", "NetworkPolicy"} {
		wanted[kind+"List"] = fields{1: nil, 2: wanted[kind]}
	}
}

// lean is a NegotiatedSerializer whose protobuf objects lose what is not wanted.
type lean struct{ runtime.NegotiatedSerializer }

func (l lean) SupportedMediaTypes() []runtime.SerializerInfo {
	all := slices.Clone(l.NegotiatedSerializer.SupportedMediaTypes())
	for i := range all {
		if all[i].MediaType == runtime.ContentTypeProtobuf {
			all[i].Serializer = leanSerializer{all[i].Serializer}
		}
	}
	return all
}

type leanSerializer struct{ runtime.Serializer }

func (s leanSerializer) Decode(data []byte, gvk *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	return s.Serializer.Decode(slim(data), gvk, into)
}

// magic begins every object in protobuf; runtime.Unknown follows: 1 is its type (2 the kind in there), 2 the object.
var magic = []byte("k8s\x00")

// slim is the object without what is not wanted of its kind. What it does not understand it leaves to the decoder.
func slim(data []byte) []byte {
	rest, ok := bytes.CutPrefix(data, magic)
	if !ok {
		return data
	}
	var kind []byte
	each(rest, func(number uint64, _, value []byte) {
		if number == 1 {
			each(value, func(number uint64, _, value []byte) {
				if number == 2 {
					kind = value
				}
			})
		}
	})
	want := wanted[string(kind)]
	if want == nil {
		return data
	}
	out := append(make([]byte, 0, len(data)/2), magic...)
	if out, ok = keep(out, rest, fields{1: nil, 2: want, 3: nil, 4: nil}); !ok {
		return data
	}
	return out
}

// keep appends those fields of a message to out that are wanted.
func keep(out, message []byte, want fields) ([]byte, bool) {
	ok := each(message, func(number uint64, whole, value []byte) {
		below, named := want[number]
		switch {
		case !named:
		case below == nil || value == nil:
			out = append(out, whole...)
		default:
			at, good := len(out), false
			if out, good = keep(out, value, below); !good {
				out = append(out[:at], value...) // the decoder says what is wrong
			}
			var head [2 * binary.MaxVarintLen64]byte
			out = slices.Insert(out, at, binary.AppendUvarint(binary.AppendUvarint(head[:0], number<<3|2), uint64(len(out)-at))...)
		}
	})
	return out, ok
}

// each calls f for the fields of a message: whole is all of a field, value what is in one that has a length, else nil. It
// says whether the message was well formed.
func each(message []byte, f func(number uint64, whole, value []byte)) bool {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return false
		}
		size, value := uint64(0), []byte(nil)
		switch tag & 7 {
		case 0:
			_, m := binary.Uvarint(message[n:])
			if m <= 0 {
				return false
			}
			size = uint64(m)
		case 1:
			size = 8
		case 2:
			length, m := binary.Uvarint(message[n:])
			if m <= 0 || length > uint64(len(message)-n-m) {
				return false
			}
			value = message[n+m : n+m+int(length)]
			size = uint64(m) + length
		case 5:
			size = 4
		default:
			return false
		}
		if size > uint64(len(message)-n) {
			return false
		}
		f(tag>>3, message[:n+int(size)], value)
		message = message[n+int(size):]
	}
	return true
}
