/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Heartbeat links, as some kernels of 2007 had them: cluster/C/heartbeat/REGION/NAME -> cluster/C/node/NODE.
 * Put before the item operations of a region into the distribution's heartbeat.c. For tests.
 */

static bool links_tell;
module_param(links_tell, bool, 0644);
MODULE_PARM_DESC(links_tell, "Tell the listeners of heartbeat that a node is up or down when a link to it comes or goes");

static void links_told(struct config_item *target, enum o2hb_callback_type what)
{
	struct o2hb_node_event event = { .hn_item = LIST_HEAD_INIT(event.hn_item), };
	struct o2nm_node *node = container_of(target, struct o2nm_node, nd_item);

	if (!READ_ONCE(links_tell))
		return;
	spin_lock(&o2hb_live_lock);
	/* o2net accepts no connection of a node that is not in here. */
	if (what == O2HB_NODE_UP_CB)
		set_bit(node->nd_num, o2hb_live_node_bitmap);
	else
		clear_bit(node->nd_num, o2hb_live_node_bitmap);
	o2hb_queue_node_event(&event, what, node, node->nd_num);
	spin_unlock(&o2hb_live_lock);
	o2hb_run_event_list(&event);
}

static int links_allow(struct config_item *region, struct config_item *target)
{
	struct config_item *group = target->ci_parent;

	/* Only an item of node/ in the one cluster is a node. */
	if (!group || !o2nm_single_cluster || group->ci_parent != &o2nm_single_cluster->cl_group.cg_item ||
	    strcmp(config_item_name(group), "node"))
		return -EINVAL;
	pr_notice("o2hb: node %s is linked into %s\n", config_item_name(target), config_item_name(region));
	links_told(target, O2HB_NODE_UP_CB);
	return 0;
}

static void links_drop(struct config_item *region, struct config_item *target)
{
	pr_notice("o2hb: node %s is unlinked from %s\n", config_item_name(target), config_item_name(region));
	links_told(target, O2HB_NODE_DOWN_CB);
}

/* What a live connection of o2net does to a node: something other than a link depends on it, and its rmdir says EBUSY. */
static struct o2nm_node *links_pinned;

static int links_pin(const char *value, const struct kernel_param *param)
{
	struct o2nm_node *node = NULL;
	u8 number;
	int ret = kstrtou8(value, 0, &number);

	if (ret)
		return ret;
	if (number) {
		node = o2nm_get_node_by_num(number);
		if (!node)
			return -ENOENT;
		ret = o2nm_depend_item(&node->nd_item);
		if (ret) {
			o2nm_node_put(node);
			return ret;
		}
	}
	swap(node, links_pinned);
	if (node) {
		o2nm_undepend_item(&node->nd_item);
		o2nm_node_put(node);
	}
	return 0;
}

static const struct kernel_param_ops links_pin_ops = { .set = links_pin };
module_param_cb(links_pin, &links_pin_ops, NULL, 0200);
MODULE_PARM_DESC(links_pin, "Number of a node to depend on; 0 lets the last one go");
