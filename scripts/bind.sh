#!/usr/bin/env bash
# Hands a PCI network device to vfio-pci, for DPDK, and back to the kernel.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

usage() {
    cat <<'TEXT'
usage: bind.sh --status
       bind.sh [--no-iommu] ADDRESS
       bind.sh --release ADDRESS

  --status     shows the network devices, their drivers and whether they can be bound
  ADDRESS      PCI address, such as 0000:3b:00.0 or 3b:00.0: binds the device to vfio-pci (root)
  --release    gives the device back to the driver of the kernel (root)
  --no-iommu   for machines without an IOMMU, such as most virtual ones: the device can then write
               to all of memory, and so can a faulty program that drives it

The device must be down and without a part in bonds, bridges or VLANs; the one that carries the
default route is always refused. Devices with the mlx4 and mlx5 drivers need not be bound: DPDK uses
them through the driver of the kernel.
TEXT
}

# Another directory can take the place of sysfs, to try this script without a device.
readonly SYSFS=${HOMA_SYSFS:-/sys}
readonly DEVICES=$SYSFS/bus/pci/devices

# The kernel's driver of a device, empty if there is none.
driver_of() {
    [[ ! -e $DEVICES/$1/driver ]] || basename "$(readlink -f "$DEVICES/$1/driver")"
}

# The network interfaces of a device; those of virtio devices lie one level deeper.
interfaces_of() {
    local path
    for path in "$DEVICES/$1"/net/* "$DEVICES/$1"/virtio*/net/*; do
        [[ ! -e $path ]] || basename "$path"
    done
}

iommu_group_of() {
    [[ ! -e $DEVICES/$1/iommu_group ]] || basename "$(readlink -f "$DEVICES/$1/iommu_group")"
}

carries_default_route() {
    local routes
    routes=$(
        ip -4 route show default 2>/dev/null
        ip -6 route show default 2>/dev/null
    ) || true
    [[ " ${routes//$'\n'/ } " == *" dev $1 "* ]]
}

# Bonds, bridges and VLANs on top of an interface.
uppers_of() {
    local path
    for path in "$SYSFS/class/net/$1"/upper_*; do
        [[ ! -e $path && ! -L $path ]] || basename "${path#*upper_}"
    done
}

is_up() {
    # Bit 0 of the flags is IFF_UP.
    (($(cat "$SYSFS/class/net/$1/flags") & 1))
}

# Says why a device must stay with the kernel; nothing if it need not.
objection() {
    local interface uppers
    case "$(driver_of "$1")" in
        mlx4_core | mlx5_core)
            echo "it has the driver $(driver_of "$1"), which DPDK works with: use pci:$1 as it is"
            return
            ;;
    esac
    while read -r interface; do
        uppers=$(uppers_of "$interface" | paste -s -d ' ')
        if carries_default_route "$interface"; then
            echo "its interface $interface carries the default route: the machine would be cut off"
        elif [[ -n $uppers ]]; then
            echo "its interface $interface is part of $uppers: take it out first"
        elif is_up "$interface"; then
            echo "its interface $interface is up: ip link set $interface down"
        else
            continue
        fi
        return
    done < <(interfaces_of "$1")
}

# Other devices of the same IOMMU group that a driver of the kernel uses. Bridges do not matter.
group_neighbors() {
    local path address
    for path in "$DEVICES/$1"/iommu_group/devices/*; do
        address=$(basename "$path")
        case "$address $(driver_of "$address")" in
            "$1 "* | *' ' | *' vfio-pci' | *' pcieport') ;;
            *) echo "$address ($(driver_of "$address"))" ;;
        esac
    done
}

# Says in a few words whether a device can be bound.
verdict() {
    local reason
    reason=$(objection "$1")
    if [[ $(driver_of "$1") == vfio-pci ]]; then
        echo "is bound"
    elif [[ -n $reason ]]; then
        echo "no: $reason"
    elif [[ -z $(iommu_group_of "$1") ]]; then
        echo "only with --no-iommu"
    else
        echo "yes"
    fi
}

is_network_device() {
    [[ -e $DEVICES/$1/class && $(cat "$DEVICES/$1/class") == 0x02* ]]
}

show_status() {
    local path address driver group interfaces
    local format='%-13s %-12s %-11s %-12s %s\n'
    # shellcheck disable=SC2059 # The format is the line above.
    printf "$format" address driver 'IOMMU group' interface 'can be bound'
    for path in "$DEVICES"/*; do
        address=$(basename "$path")
        is_network_device "$address" || continue
        driver=$(driver_of "$address")
        group=$(iommu_group_of "$address")
        interfaces=$(interfaces_of "$address" | paste -s -d ,)
        # shellcheck disable=SC2059
        printf "$format" "$address" "${driver:--}" "${group:--}" "${interfaces:--}" \
            "$(verdict "$address")"
    done
}

# Checks that an argument is the address of a network device and prints it in full.
network_device() {
    local address=${1,,}
    [[ $address =~ ^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] ||
        die "'$1' is not a PCI address such as 0000:3b:00.0"
    [[ ${#address} -eq 12 ]] || address=0000:$address
    [[ -e $DEVICES/$address ]] || die "there is no PCI device $address: bind.sh --status shows those there are"
    is_network_device "$address" || die "$address is not a network device"
    echo "$address"
}

need_rights() {
    [[ -w $DEVICES/$1/driver_override ]] || die "only root can change the driver of $1: sudo $0 ..."
}

# Unbinds a device from its driver and lets the kernel choose again, with $2 as the only choice if it
# is not empty.
choose_driver() {
    echo "$2" >"$DEVICES/$1/driver_override"
    [[ ! -e $DEVICES/$1/driver ]] || echo "$1" >"$DEVICES/$1/driver/unbind"
    # Fails when no driver wants the device. The caller looks at what came out.
    echo "$1" >"$SYSFS/bus/pci/drivers_probe" || true
}

check_iommu() {
    local address=$1 no_iommu=$2 neighbors
    if [[ -n $(iommu_group_of "$address") ]]; then
        neighbors=$(group_neighbors "$address" | paste -s -d ' ')
        [[ -z $neighbors ]] || die "$address shares its IOMMU group with devices that the kernel uses: $neighbors.
Bind them too, or move the card to another slot"
    elif [[ $no_iommu == no ]]; then
        die "$address has no IOMMU group. Turn on VT-d or AMD-Vi in the firmware and start the kernel with
intel_iommu=on iommu=pt (Intel) or iommu=pt (AMD). A machine without an IOMMU: --no-iommu (see --help)"
    fi
}

load_vfio() {
    local no_iommu=$1 switch=$SYSFS/module/vfio/parameters/enable_unsafe_noiommu_mode
    [[ -d $SYSFS/bus/pci/drivers/vfio-pci ]] || modprobe vfio-pci ||
        die "the module vfio-pci cannot be loaded: install kmod and the modules of this kernel ($(uname -r))"
    [[ $no_iommu == yes ]] || return 0
    [[ -w $switch ]] || die "this kernel has no mode without IOMMU: $switch is not there"
    echo 1 >"$switch"
}

bind_device() {
    local address=$1 no_iommu=$2 reason
    if [[ $(driver_of "$address") == vfio-pci ]]; then
        echo "$address is bound to vfio-pci already"
        return
    fi
    reason=$(objection "$address")
    [[ -z $reason ]] || die "$address stays with the kernel: $reason"
    check_iommu "$address" "$no_iommu"
    need_rights "$address"
    load_vfio "$no_iommu"
    choose_driver "$address" vfio-pci
    if [[ $(driver_of "$address") != vfio-pci ]]; then
        choose_driver "$address" ''
        die "$address could not be bound to vfio-pci, its driver is now $(driver_of "$address"): dmesg says why"
    fi
    echo "$address is bound to vfio-pci. Use it as pci:$address; give it back with: $0 --release $address"
}

release_device() {
    local address=$1 driver
    driver=$(driver_of "$address")
    if [[ -n $driver && $driver != vfio-pci ]]; then
        echo "$address is with the kernel already, driver $driver"
        return
    fi
    need_rights "$address"
    choose_driver "$address" ''
    driver=$(driver_of "$address")
    [[ -n $driver ]] || die "no driver of the kernel wants $address"
    echo "$address is with the kernel again, driver $driver"
}

main() {
    local address no_iommu=no
    case "$#:${1-}" in
        1:-h | 1:--help) usage && exit 0 ;;
        1:--status) show_status && exit 0 ;;
        2:--release)
            address=$(network_device "$2")
            release_device "$address"
            exit 0
            ;;
        2:--no-iommu)
            no_iommu=yes
            shift
            ;;
        1:-* | 0:* | [2-9]:*) usage >&2 && exit 2 ;;
    esac
    address=$(network_device "$1")
    bind_device "$address" "$no_iommu"
}

main "$@"
