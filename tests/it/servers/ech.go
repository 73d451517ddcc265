// A TLS 1.3 server with Encrypted Client Hello. It logs each connection.
package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Returns an ECHConfig (RFC 9849, section 4) and its private key.
func makeKey(id byte) ([]byte, []byte) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(err)
	name := "outer.public.test"
	public := key.PublicKey().Bytes()
	contents := []byte{id, 0x00, 0x20} // DHKEM(X25519, HKDF-SHA256)
	contents = binary.BigEndian.AppendUint16(contents, uint16(len(public)))
	contents = append(contents, public...)
	contents = append(contents, 0, 4, 0, 1, 0, 1) // HKDF-SHA256, AES-128-GCM
	contents = append(contents, 32, byte(len(name)))
	contents = append(contents, name...)
	contents = append(contents, 0, 0)
	config := []byte{0xfe, 0x0d}
	config = binary.BigEndian.AppendUint16(config, uint16(len(contents)))
	return append(config, contents...), key.Bytes()
}

func writeList(path string, config []byte) {
	list := binary.BigEndian.AppendUint16(nil, uint16(len(config)))
	check(os.WriteFile(path, append(list, config...), 0o644))
}

func main() {
	good, key := makeKey(1)
	stale, _ := makeKey(2)
	writeList("good", good)
	writeList("stale", stale)
	chain, err := tls.LoadX509KeyPair("chain.pem", "key.pem")
	check(err)
	config := &tls.Config{
		Certificates: []tls.Certificate{chain},
		MinVersion:   tls.VersionTLS13,
		// Without a module, Go takes the defaults of an old version.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{
			{Config: good, PrivateKey: key, SendAsRetry: true},
		},
	}
	listener, err := net.Listen("tcp", os.Args[1])
	check(err)
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		check(err)
		go func() {
			defer conn.Close()
			check(conn.SetDeadline(time.Now().Add(20 * time.Second)))
			server := tls.Server(conn, config)
			if err := server.Handshake(); err != nil {
				fmt.Println("refused", err)
				return
			}
			state := server.ConnectionState()
			fmt.Printf("served %s %t\n", state.ServerName, state.ECHAccepted)
			fmt.Printf("group %d\n", state.CurveID)
			server.Write([]byte("ok"))
			server.Close()
		}()
	}
}
