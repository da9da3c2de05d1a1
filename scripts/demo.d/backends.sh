# shellcheck shell=bash disable=SC2034 # who sources it uses what is set here
# What differs between the back ends and between the address families.
declare -A device filter
back_ends=(vxlan vxlan-direct host-gw udp wireguard)

# choose BACKEND STACK: sets families; conf, the Backend of net-conf.json; setup, the program that makes the device; tunnel,
# whether there is one; device, of each family; carries and filter, what the underlay carries and how tcpdump sees it;
# secret, whether nobody can read that; may_lose, how many pings in each family when the program of the tunnel is killed;
# lacks, what it cannot have in this stack.
choose() {
	tunnel=1 secret='' may_lose=0 lacks='' carries="the pods' packets as they are" filter=([ipv4]=icmp [ipv6]=icmp6)
	case $1 in
	vxlan)
		conf='{"Type": "vxlan"}' setup=vxlan-setup device=([ipv4]=flannel.1 [ipv6]=flannel-v6.1)
		carries="VXLAN, port 8472" filter=([ipv4]="ip and udp port 8472" [ipv6]="ip6 and udp port 8472")
		;;
	vxlan-direct)
		conf='{"Type": "vxlan", "DirectRouting": true}' setup=vxlan-setup device=([ipv4]=flannel.1 [ipv6]=flannel-v6.1) tunnel=
		;;
	udp)
		conf='{"Type": "udp"}' setup=udp-tunnel device=([ipv4]=flannel0) carries="IP in UDP, port 8285" filter=([ipv4]="udp port 8285")
		[[ $2 == ipv4 ]] || lacks=IPv6
		;;
	wireguard)
		conf='{"Type": "wireguard", "PSK": "2vXs3cn9ysnnRSu2oSzP9CR6a8IXZD8wX0KD2jT0a/s="}' setup=wireguard-setup
		device=([ipv4]=flannel-wg [ipv6]=flannel-wg-v6) carries="WireGuard" secret=1
		filter=([ipv4]="ip and udp port 51820" [ipv6]="ip6 and udp port 51821")
		# Sessions end with the process that has them, where the kernel has no WireGuard: what is on its way then is lost.
		may_lose=20
		;;
	host-gw) conf='{"Type": "host-gw"}' setup=hostgw-setup device=([ipv4]=eth0 [ipv6]=eth0) tunnel= ;;
	*) echo "demo: BACKEND ${1@Q}: use one of ${back_ends[*]}" >&2 && return 64 ;;
	esac
	case $2 in
	ipv4) families=(ipv4) ;;
	dual) families=(ipv4 ipv6) ;;
	ipv6) families=(ipv6) ;;
	*) echo "demo: STACK ${2@Q}: use ipv4, dual or ipv6" >&2 && return 64 ;;
	esac
}

# The underlay's addresses begin so; a node's number, or 1 for the world outside, is the end.
declare -A underlay=([ipv4]=192.168.100. [ipv6]=fd00:192:168:100::)
declare -A length=([ipv4]=24 [ipv6]=64) full=([ipv4]=32 [ipv6]=128)
declare -A network=([ipv4]=10.244.0.0/16 [ipv6]=fd00:10:244::/48)
declare -A net_conf=(
	[ipv4]='"Network": "10.244.0.0/16"'
	[dual]='"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/48"'
	[ipv6]='"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48"'
)
